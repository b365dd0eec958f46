"""What a backtest's record says of its costs and of its luck, in words a person reads; `record` is as on a stream."""

from collections.abc import Mapping
from typing import Any


def slippage(record: Mapping[str, Any]) -> str:
    """What moves prices and what lending costs, in a few words."""
    fixed = f"{record['slippage_bps']:g} bps"
    words = [f"{record['slippage']} ({fixed} fixed)" if record["slippage"] else fixed]
    words += [f"{rate} {record[f'{rate}_rate']:.2%} a year" for rate in ("borrow", "margin") if record[f"{rate}_rate"]]
    return ", ".join(words)


def luck(judged: Mapping[str, Any]) -> str:
    """What the Sharpe ratio is worth after all that was tried, and its intervals."""
    one = "the only trial" if judged["trials"] < 2 else f"one of {judged['trials']:,} trials"
    words = f"in sample, {one} of this strategy here"
    if judged["deflated_sharpe"] is None:
        return f"{words}: too few returns to tell skill from luck\n"
    words += f"; a true sharpe above 0: {judged['probabilistic_sharpe']:.1%} probable"
    if judged["trials"] > 1:
        words += f", above the {judged['best_by_luck']:.2f} of the luckiest: {judged['deflated_sharpe']:.1%}"
    if judged["samples"]:
        sharpe = f"{judged['sharpe_low']:.2f} .. {judged['sharpe_high']:.2f}"
        cagr = f"{judged['cagr_low']:.1%} .. {judged['cagr_high']:.1%}"
        words += f"\n95 % of {judged['samples']:,} bootstrap samples: sharpe {sharpe}, cagr {cagr}"
    return f"{words}\n"
