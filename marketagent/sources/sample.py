"""Real prices to try things on: five symbols, 2000-03 to 2013-03, as the package ``bokeh_sampledata`` ships them.

Quandl's WIKI prices, as traded, with an adjusted close that splits and dividends are read back from; its publisher
declared them public domain. The series called GOOG is Google before its 2014 share classes.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from marketagent.errors import UsageError, did_you_mean
from marketagent.sources import Batch, Request, Unserved

TAKES = "symbols"
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")


def batches(request: Request) -> Iterator[Batch | Unserved]:
    """The package's file, cut to the asked symbols, all of them if none are named; one batch a symbol."""
    path = _file()
    for symbol in request.names or SYMBOLS:
        if symbol not in SYMBOLS:
            yield Unserved(symbol, UnknownSymbol(symbol))
            continue
        options = replace(request.options, symbols=(symbol,))
        span = f"{options.first or ''}..{options.last or ''}"
        yield Batch(
            path=path,
            name=f"bokeh_sampledata {symbol}",
            fingerprint=f"bokeh_sampledata {version('bokeh_sampledata')} {symbol} {span}",
            source="sample",
            options=options,
        )


class UnknownSymbol(UsageError):
    """The sample has no such symbol."""

    def __init__(self, symbol: str) -> None:
        near = did_you_mean(symbol, SYMBOLS) if symbol.upper() not in SYMBOLS else ""
        super().__init__(f"source sample has no {symbol}{near} (it has {', '.join(SYMBOLS)})")


def _file() -> Path:
    spec = find_spec("bokeh_sampledata")  # found, not imported: importing it would import pandas
    if spec is None or spec.origin is None:
        raise UsageError("source sample needs the extra demo; run: pip install 'market-agent[demo]'")
    return Path(spec.origin).parent / "_data" / "stocks.csv.gz"
