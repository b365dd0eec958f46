"""Every record that travels on a stream, as a frozen dataclass; ``ma schema KIND`` prints its JSON Schema.

A schema only grows: a field may be added with a default, none is renamed or removed, and ``VERSION``
rises when a reader must know. Sessions are New York dates (``YYYY-MM-DD``), instants UTC RFC 3339, rates
fractions. ``None`` stands for "there is none", never NaN.
"""

from marketagent.records.decisions import Decision, Opinion, Order, Position
from marketagent.records.facts import Bar, Difference, Fetched, Quote, Row, Setting, Trade
from marketagent.records.stream import Begin, End, Failure
from marketagent.records.studies import (
    AccountSize,
    Backtest,
    Finding,
    Fold,
    Leak,
    Luck,
    StrategyInfo,
    Sweep,
    Trial,
    WalkForward,
    Warmup,
)
from marketagent.records.units import CASH, VERSION, Action, Share, Status, Unit

__all__ = [
    "CASH",
    "KINDS",
    "VERSION",
    "AccountSize",
    "Action",
    "Backtest",
    "Bar",
    "Begin",
    "Decision",
    "Difference",
    "End",
    "Failure",
    "Fetched",
    "Finding",
    "Fold",
    "Leak",
    "Luck",
    "Opinion",
    "Order",
    "Position",
    "Quote",
    "Row",
    "Setting",
    "Share",
    "Status",
    "StrategyInfo",
    "Sweep",
    "Trade",
    "Trial",
    "Unit",
    "WalkForward",
    "Warmup",
]

KINDS: dict[str, type] = {
    "begin": Begin,
    "end": End,
    "fetched": Fetched,
    "difference": Difference,
    "decision": Decision,
    "order": Order,
    "position": Position,
    "backtest": Backtest,
    "trial": Trial,
    "sweep": Sweep,
    "fold": Fold,
    "leak": Leak,
    "warmup": Warmup,
    "strategy": StrategyInfo,
    "bar": Bar,
    "trade": Trade,
    "quote": Quote,
    "setting": Setting,
    "row": Row,
}
