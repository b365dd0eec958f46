"""How one value of a record is written for a person, and under which label: on a terminal and on a page alike.

Percent exists only here. Texts come from news, brokers and models: nothing of them may drive a terminal.
"""

import json
import math
import unicodedata
from typing import Any

NONE = "–"
SWEPT = "set "  # before the name of a parameter among the columns of a trial: it may be that of another column
_LABELS = {
    "confidence": "conf",
    "corrected": "changed",
    "quarantined": "aside",
    "filled_quantity": "filled",
    "fill_price": "at",
    "commission": "fee",
    "total_return": "return",
    "max_drawdown": "drawdown",
    "deflated_sharpe": "deflated",
}
_PERCENT = {"deflated_sharpe", "pbo", "efficiency", "weight", "confidence", "band", "exposure", "alpha"}
_RATES = ("return", "drawdown", "volatility", "cagr", "rate")
_MONEY = {"close", "price", "value", "fill_price", "commission", "cash", "equity", "costs_paid", "lending_paid"}
_SCORES = {
    "score",
    "sharpe",
    "sortino",
    "calmar",
    "beta",
    "information_ratio",
    "turnover",
    "profit_factor",
    "plateau",
    "spa_p",
    "null_p",
}


def cell(name: str, value: Any) -> str:
    """One value of the field `name`, as a person reads it.

    >>> cell("weight", 0.125), cell("close", 1234.5), cell("score", -0.4), cell("quantity", 1500.0)
    ('12.5%', '1,234.50', '-0.400', '1,500')
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(name, value)
    return clean(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def counted(number: int, noun: str) -> str:
    """How many of `noun` there are.

    >>> counted(1, "symbol"), counted(1234, "window"), counted(0, "session")
    ('1 symbol', '1,234 windows', '0 sessions')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def label(name: str) -> str:
    """What a person is told the field `name` is.

    >>> label("max_drawdown"), label("win_rate")
    ('drawdown', 'win rate')
    """
    return clean(_LABELS.get(name, name.removeprefix(SWEPT)).replace("_", " "))


def clean(text: str) -> str:
    """`text` on one line, without any character that could drive a terminal or turn its reading order.

    >>> clean("up 3%\\x1b]52;c;aGk=\\x07 today\\n")
    'up 3%]52;c;aGk= today '
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if _is_space(char) else char for char in text if _is_space(char) or _is_harmless(char))


def _number(name: str, value: float) -> str:
    if not math.isfinite(value):
        return NONE
    if name in _PERCENT or name.endswith(_RATES):
        return f"{value:.1%}"
    if name in _MONEY:
        return f"{value:,.2f}"
    if name == "break_even_bps":
        return f"{value:,.1f}"  # it is found to half a percent
    if name in _SCORES or name.endswith("_sharpe"):
        return f"{value:.3f}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4f}".rstrip("0").rstrip(".") if abs(value) >= 0.0001 or value == 0 else f"{value:.3g}"


def _is_space(char: str) -> bool:
    return char in "\t\n\r\v\f" or unicodedata.category(char) in ("Zl", "Zp")


def _is_harmless(char: str) -> bool:
    return unicodedata.category(char)[0] != "C"
