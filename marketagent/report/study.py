"""What a result is worth and what it rests on: findings, luck, the trials of its family, notes, provenance."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from marketagent import wording
from marketagent.formats import cell, label
from marketagent.records import Fold
from marketagent.report.model import Section, Sheet, Table

_PROBABILITIES = ("probabilistic_sharpe", "deflated_sharpe", "luck_p", "null_p")
_MEANINGS = {
    "trials": "trials of this strategy on this universe, this one included",
    "effective_trials": "independent trials that they are worth",
    "best_by_luck": "sharpe of the best of them without skill",
    "probabilistic_sharpe": "probability of a true sharpe above 0",
    "deflated_sharpe": "probability of a true sharpe above that of the luckiest",
    "luck_p": "how often the luckiest of them would be as good: significant below 5 %",
    "samples": "bootstrap samples, 95 % of which lie in",
    "sharpe_low": "sharpe from",
    "sharpe_high": "sharpe to",
    "cagr_low": "cagr from",
    "cagr_high": "cagr to",
    "null_runs": "runs of random entries",
    "null_sharpe": "their middle sharpe",
    "null_p": "share of them and itself that did at least as well",
}


def findings(record: Mapping[str, Any]) -> Section:
    """What makes the result doubtful, each with its number and the limit it passed; "none" where nothing does."""
    if not record.get("findings"):
        return Section("Findings", note="none")
    rows = [
        [found["code"], cell("", found["number"]), cell("", found["limit"]), found["text"]]
        for found in record["findings"]
    ]
    names = ["finding", "number", "limit", "what it says"]
    return Section("Findings", [Table("What makes the result doubtful", names, rows, right=(1, 2))])


def folds(found: Sequence[Fold]) -> Section:
    """The windows of a walk-forward, each with what was chosen in it and how that did after it."""
    swept = found[0].swept
    rows = [
        [
            str(fold.fold),
            f"{fold.train_first} .. {fold.train_last}",
            f"{fold.first} .. {fold.last}",
            *(str(fold.params[name]) for name in swept),
            cell("sharpe", fold.in_sample_sharpe),
            cell("sharpe", fold.sharpe),
            cell("total_return", fold.total_return),
        ]
        for fold in found
    ]
    names = ["window", "chosen on", "judged on", *swept, "sharpe in sample", "sharpe", "return"]
    return Section("Walk-forward", [Table("Windows", names, rows, right=range(3, len(names)))], judged=found[0].judged)


def verdict(record: Mapping[str, Any]) -> Table:
    """What the best of a sweep is worth, by the sweep's record."""
    rows = [[name, text] for name, text in wording.sweep(record).items()]
    return Table("What the best is worth", ["", "in sample"], rows)


def luck(sheet: Sheet, record: Mapping[str, Any]) -> Section:
    """How much of the Sharpe ratio may be luck; whatever else the record says of it stands below."""
    judged = record.get("luck")
    if not judged:
        return Section("Luck", note="Not judged.")
    known = {name: value for name, value in judged.items() if isinstance(value, int | float | str) and value != ""}
    known = {name: value for name, value in known.items() if value or name not in ("samples", "null_runs")}
    meanings = {**_MEANINGS, "trials": _MEANINGS["trials"].replace("trials", f"{wording.tried(record)}s")}
    rows = [[meanings.get(name, label(name)), _number(name, value)] for name, value in known.items()]
    table = Table("Luck", ["of the Sharpe ratio", "value"], rows, right=(1,))
    return Section("Luck", [table], ". ".join(sheet.luck))


def _number(name: str, value: Any) -> str:
    if name in _PROBABILITIES:
        return f"{value:.1%}"
    return cell("cagr" if name.startswith("cagr") else "sharpe" if "sharpe" in name or "luck" in name else name, value)


def trials(rows: Sequence[Mapping[str, Any]], total: int, record: Mapping[str, Any], a_year: int) -> Section:
    """The newest trials of the family, as the ledger has them: where their parameters differ from those of `record`."""
    if not rows:
        return Section("Trials of this family", note="none")
    own, params = record["params"], [json.loads(row["params"]) for row in rows]
    known = dict.fromkeys(name for each in params for name in each if name != "grid")
    names = [name for name in known if any(name in each and each[name] != own.get(name) for each in params)]
    texts = [
        [
            f"{row['tried_at']:%Y-%m-%d %H:%M}",
            " ".join(f"{name}={each[name]}" for name in names if name in each) or "as here",
            f"{row['first']} .. {row['last']}",
            cell("sharpe", row["sharpe"] * a_year**0.5),
            row["strategy_hash"][:12],
            "this run" if row["run"] == record["run"] and _is_own(each, record) else "",
        ]
        for row, each in zip(rows, params, strict=True)
    ]
    more = f" The newest {len(rows):,} of {total:,} are shown." if total > len(rows) else ""
    table = Table("Trials", ["tried (UTC)", "parameters", "sessions", "sharpe", "strategy", ""], texts, right=(3,))
    return Section(
        "Trials of this family",
        [table],
        f"In sample, but for walk-forwards, which are judged among each other; all count for what is in sample.{more}",
    )


def _is_own(params: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether it is the trial of the record, and not one of the combinations that a walk-forward chose from."""
    return "walk_forward" in params if record.get("walk_forward") else params == record["params"]


def notes(sheet: Sheet, missing: Sequence[str]) -> Section:
    """What is to be said about the run, and the symbols that were asked for and are not in it."""
    texts = [*sheet.notes, *([f"nothing is stored of {', '.join(missing)}"] if missing else [])]
    if not texts:
        return Section("Notes", note="none")
    return Section("Notes", [Table("Notes", ["note"], [[text] for text in texts])])


def provenance(record: Mapping[str, Any], made: Mapping[str, str], symbols: Sequence[str]) -> Section:
    """Everything the run can be repeated from; `made` says when and with what the page was made."""
    rows = [
        ["run", record["run"]],
        ["data hash", record["data_hash"]],
        ["strategy hash", record["strategy_hash"]],
        *([name, text] for name, text in made.items()),
        *(["parameter", f"{name}={value}"] for name, value in record["params"].items()),
        ["symbols", " ".join(symbols)],
    ]
    return Section("Provenance", [Table("Provenance", ["what", "value"], rows)])
