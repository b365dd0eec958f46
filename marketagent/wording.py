"""What a backtest's record says of its costs and of its luck, in words a person reads; `record` is as on a stream."""

from collections.abc import Mapping
from typing import Any

from marketagent.formats import counted

SIGNIFICANT = 0.05


def slippage(record: Mapping[str, Any]) -> str:
    """What moves prices and what lending costs, in a few words."""
    fixed = f"{record['slippage_bps']:g} bps"
    words = [f"{record['slippage']} ({fixed} fixed)" if record["slippage"] else fixed]
    words += [f"{rate} {record[f'{rate}_rate']:.2%} a year" for rate in ("borrow", "margin") if record[f"{rate}_rate"]]
    return ", ".join(words)


def tried(record: Mapping[str, Any]) -> str:
    """What a run is one of, for its luck: a walk-forward that had something to choose is judged among walk-forwards."""
    return "walk-forward" if (record.get("walk_forward") or {}).get("combinations", 1) > 1 else "trial"


def luck(judged: Mapping[str, Any], where: str = "in sample", trial: str = "trial") -> str:
    """What the Sharpe ratio is worth after all that was tried, and its intervals; `where` it was judged, as what `trial`."""
    one = f"the only {trial}" if judged["trials"] < 2 else f"one of {judged['trials']:,} {trial}s"
    words = f"{where}, {one} of this strategy here{_alike(judged)}"
    if judged["deflated_sharpe"] is None:
        return f"{words}: too few returns, or none that differ, to tell skill from luck\n"
    words += f"; a true sharpe above 0: {judged['probabilistic_sharpe']:.1%} probable"
    if judged["trials"] > 1:
        words += f", above the {judged['best_by_luck']:.2f} of the luckiest: {judged['deflated_sharpe']:.1%}"
    words += _verdict(judged)
    if judged["samples"]:
        sharpe = f"{judged['sharpe_low']:.2f} .. {judged['sharpe_high']:.2f}"
        cagr = " .. ".join(
            "beyond any number" if end is None else f"{end:.1%}" for end in (judged["cagr_low"], judged["cagr_high"])
        )
        words += f"\n95 % of {judged['samples']:,} bootstrap samples: sharpe {sharpe}, cagr {cagr}"
    if judged.get("null_runs"):
        words += (
            f"\nagainst {counted(judged['null_runs'], 'run')} of random entries p {judged['null_p']:.3f}: the share of them and"
            f" itself that did at least as well; their middle sharpe is {judged['null_sharpe']:.2f}"
        )
    return f"{words}\n"


def _alike(judged: Mapping[str, Any]) -> str:
    """How many independent trials those of a family are worth."""
    effective = judged.get("effective_trials")
    return "" if effective is None or judged["trials"] < 2 else f", worth {effective:,.1f} independent ones"


def _verdict(judged: Mapping[str, Any]) -> str:
    """Whether a Sharpe ratio stands out of what its family would reach by luck; records of before do not say."""
    p = judged.get("luck_p")
    if p is None:
        return ""
    whose = "it" if judged["trials"] < 2 else "the luckiest of them"
    found = "significant" if p < SIGNIFICANT else "not significant"
    return f"; {found} (p {p:.3f}: how often {whose} would do as well without skill)"


def finding(found: Mapping[str, Any]) -> str:
    """One thing that makes a result doubtful, on a line."""
    return f"{found['code']}: {found['text']}"


def walk_forward(record: Mapping[str, Any]) -> str:
    """How a run was refitted, and what was left of its Sharpe ratio out of sample."""
    walk, sharpe = record["walk_forward"], record["metrics"].get("sharpe")
    grid = " x ".join(f"{len(values)} {name}" for name, values in walk["grid"].items()) or "nothing to choose"
    words = f"{walk['lengths']}, purge {walk['purge']}, embargo {walk['embargo']}: {counted(walk['folds'], 'window')},"
    words += f" the best of {counted(walk['combinations'], 'combination')} ({grid}) in each, judged out of sample"
    if walk["in_sample_sharpe"] is not None and sharpe is not None:
        words += f"; sharpe {walk['in_sample_sharpe']:.2f} in sample, {sharpe:.2f} out of sample"
    return words + (f": efficiency {walk['efficiency']:.0%}" if walk["efficiency"] is not None else "")


def sweep(record: Mapping[str, Any]) -> dict[str, str]:
    """What the best of a sweep is worth, a line each by its name."""
    best = " ".join(f"{name}={value}" for name, value in record["best"].items())
    facts = {"best": f"{best or 'none'}, chosen and judged in sample, of {counted(record['done'], 'combination')}"}
    if record["deflated_sharpe"] is not None:
        facts["deflated"] = (
            f"a true sharpe above 0: {record['probabilistic_sharpe']:.1%} probable; above the {record['best_by_luck']:.2f}"
            f" of the luckiest of {record['trials']:,} trials{_alike(record)}: {record['deflated_sharpe']:.1%}{_verdict(record)}"
        )
    if record["pbo"] is not None:
        facts["overfitting"] = (
            f"pbo {record['pbo']:.1%}: in so many of {record['splits']:,} splits the best of one half is below the middle"
            f" in the other; it loses in {record['loss']:.1%}"
        )
    if record["spa_p"] is not None:
        facts["superiority"] = (
            f"p {record['spa_p']:.3f}: so often the best of as many without skill beats {record['benchmark'] or 'cash'} by as"
            f" much (SPA, {record['samples']:,} bootstrap samples)"
        )
    return facts


def parameter(name: str, item: dict[str, Any], *, default: bool = True) -> str:
    """A strategy's parameter with its default, its bounds and its meaning, on a line."""
    bounds = (
        " | ".join(item["choices"])
        if "choices" in item
        else f"{item['low']:g} .. {item['high']:g}"
        if "low" in item
        else ""
    )
    value = f"{name}={item['default']}" if default else name
    return f"  {value}  {f'({bounds})  ' if bounds else ''}{item.get('help', '')}"
