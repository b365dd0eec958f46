"""The home of what counts as a symbol: one allow-list, before a text reaches a path, a query or a vendor.

A symbol is text everywhere: NA, NULL, TRUE, 00700, 1E5 and 2024-01-02 are tickers, never a missing value,
a number or a date.
"""

import re

from marketagent.errors import UsageError

# A leading ^ for indices (^GSPC); one or two parts behind . / _ or - for classes and pairs (BRK.B, BF/B, BTC-USD).
_PATTERN = r"\^?[A-Z0-9]{1,12}([./_-][A-Z0-9]{1,8}){0,2}"
_TICKER = re.compile(_PATTERN)
SQL_PATTERN = rf"\A{_PATTERN}\z"  # RE2, as DuckDB's regexp_matches takes it
_SHOWN = 40


def checked(text: str) -> str:
    """`text` as a symbol, ASCII letters in upper case; raises UsageError for anything but a ticker.

    >>> checked("brk.b")
    'BRK.B'
    """
    # Only ASCII is put in upper case: 'ß'.upper() is 'SS', which would pass for a ticker.
    if text.isascii() and _TICKER.fullmatch(text.upper()):
        return text.upper()
    # ascii() leaves no control, bidi or look-alike character in the message.
    shown = ascii(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
    raise UsageError(f"symbol {shown} is not a ticker such as AAPL, BRK.B or ^GSPC")


def is_ticker(text: str) -> bool:
    """Whether `text` is a symbol as it stands, in upper case."""
    return text.isascii() and _TICKER.fullmatch(text) is not None
