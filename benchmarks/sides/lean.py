"""LEAN's side, which is not run: its formulas and its files, as its repository (QuantConnect/Lean) has them.

Common/Orders/Fees/InteractiveBrokersFeeHelper.cs; Data/equity/usa/daily and factor_files, told in Data/equity/readme.md.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def commission(size: Array, value: Array, per_share: float, minimum: float) -> Array:
    """As LEAN charges it: at most 1 % of the value, unless the minimum is more."""
    each = per_share * size
    return np.where(each < minimum, minimum, np.minimum(each, 0.01 * value))


def closes(path: Path) -> tuple[Any, Array]:
    """Sessions and closes of a daily file: ``19980102 00:00,open,high,low,close,volume``, prices in 1/10,000 USD."""
    with zipfile.ZipFile(path) as archive:
        rows = [text.split(",") for text in archive.read(archive.namelist()[0]).decode().splitlines()]
    return days([row[0][:8] for row in rows]), np.array([float(row[4]) for row in rows]) / 10_000


def factors(path: Path) -> tuple[Any, Array, Array, Array]:
    """Last day of each factor, the factors of price and split, and the close of that day."""
    rows = [text.split(",") for text in path.read_text().split()]
    values = np.array([[float(number) for number in row[1:4]] for row in rows])
    return days([row[0] for row in rows]), values[:, 0], values[:, 1], values[:, 2]


def days(texts: list[str]) -> Any:
    return np.array([f"{text[:4]}-{text[4:6]}-{text[6:]}" for text in texts], dtype="datetime64[D]")
