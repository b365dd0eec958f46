"""A backtest's record as a sheet of figures: the one home of what they are called, and in what order they are told."""

from collections.abc import Mapping, Sequence
from typing import Any

from marketagent import wording
from marketagent.formats import cell, counted, label
from marketagent.report.model import Figure, Group, Sheet, Table

_GROUPS = {
    "return and risk": ("total_return", "cagr", "volatility", "sharpe", "sortino", "calmar"),
    "drawdown": ("max_drawdown", "drawdown_days"),
    "against the benchmark": ("alpha", "beta", "information_ratio"),
    "trading": ("exposure", "turnover", "trades", "win_rate", "profit_factor"),
    "costs": ("costs_paid", "lending_paid", "break_even_bps"),
}
_MORE = "more"
_IN_SAMPLE = "in sample"


def sheet(record: Mapping[str, Any]) -> Sheet:
    """The sheet of a backtest's record, which is as on a stream."""
    judged = record.get("judged") or _IN_SAMPLE
    return Sheet(
        title=record["strategy"],
        judged=judged,
        facts=_facts(record, judged),
        groups=_groups(record["metrics"]),
        luck=wording.luck(record["luck"], judged, wording.tried(record)).splitlines() if record.get("luck") else (),
        capacity=_capacity(record["capacity"]) if record.get("capacity") else None,
        notes=list(record["notes"]),
    )


def _facts(record: Mapping[str, Any], judged: str) -> list[Figure]:
    costs = f"{record['costs']}, slippage {wording.slippage(record)}, {record['fill']}"
    shares = "fractional" if record["fractional"] else "whole shares"
    params = " ".join(f"{name}={value}" for name, value in record["params"].items())
    texts = {
        "strategy": f"{record['strategy']} ({params})",
        "sessions": f"{record['first']} .. {record['last']}, {counted(record['sessions'], 'session')}"
        + ("" if record["bars"] is None else f", {counted(record['bars'], 'bar')} of {record['timeframe']}")
        + f", {judged}",
        "universe": (record.get("symbol") or counted(record["symbols"], "symbol"))
        + (f", against {record['benchmark']}" if record["benchmark"] else ""),
        "costs": f"{costs}, {shares}",
        "equity": f"{cell('equity', record['equity'])} from {cell('cash', record['cash'])}",
        "run": f"{record['run']}, data {record['data_hash'][:12]}, strategy {record['strategy_hash'][:12]}",
    }
    if record.get("walk_forward"):
        texts["walk-forward"] = wording.walk_forward(record)
    return [Figure(name, name, text) for name, text in texts.items()]


def _groups(metrics: Mapping[str, float | None]) -> list[Group]:
    """Every metric that has a value; one that no group knows comes last."""
    known = {name for names in _GROUPS.values() for name in names}
    groups = {**_GROUPS, _MORE: tuple(name for name in metrics if name not in known)}
    made = [
        Group(title, [Figure(name, label(name), cell(name, metrics[name])) for name in names if _has(metrics, name)])
        for title, names in groups.items()
    ]
    return [group for group in made if group.figures]


def _has(metrics: Mapping[str, float | None], name: str) -> bool:
    return metrics.get(name) is not None


def _capacity(sizes: Sequence[Mapping[str, Any]]) -> Table:
    """The account sizes below each other: what a larger one would have made of the same decisions."""
    names = list(sizes[0])
    return Table(
        "capacity",
        [label(name) for name in names],
        [[cell(name, size[name]) for name in names] for size in sizes],
        right=range(len(names)),
    )
