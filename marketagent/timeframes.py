"""What a bar is called, and how long it is: the home of timeframes and of a bar's name in records and journal.

A day's bar is named by its session, a bar within a day by the instant it starts at, in UTC. In Python that is a
``date`` or a naive ``datetime`` (which is a date, too), as NumPy gives them for a row of a panel; in text:

    1d   2026-11-20
    1m   2026-11-20T14:31:00Z

Regular hours of New York lie within one day of UTC the whole year, so the session of a bar is the date of its instant.
"""

from datetime import date, datetime

TIMEFRAMES = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "1d": 86_400}  # in seconds
DAY = "1d"
INTRADAY = tuple(name for name in TIMEFRAMES if name != DAY)
REGULAR_S = 23_400  # 9:30 to 16:00


def bar_text(bar: date) -> str:
    """The name of a bar as text.

    >>> bar_text(date(2026, 11, 20)), bar_text(datetime(2026, 11, 20, 14, 31))
    ('2026-11-20', '2026-11-20T14:31:00Z')
    """
    return bar.isoformat() + "Z" * isinstance(bar, datetime)


def bar_of(text: str) -> date:
    """The bar that `text` names; raises ValueError for any other text than `bar_text` gives.

    >>> bar_of("2026-11-20T14:31:00Z")
    datetime.datetime(2026, 11, 20, 14, 31)
    """
    bar = datetime.fromisoformat(text[:-1]) if text.endswith("Z") else date.fromisoformat(text)
    if bar_text(bar) != text:
        raise ValueError(f"{text[:40]!a} names no bar")
    return bar


def session_of(bar: date) -> date:
    """The session that a bar belongs to."""
    return bar.date() if isinstance(bar, datetime) else bar


def bars_a_session(timeframe: str) -> int:
    """How many bars a full session has; the last of them may be a short one.

    >>> [bars_a_session(name) for name in ("1m", "15m", "1h", "1d")]
    [390, 26, 7, 1]
    """
    return -(-REGULAR_S // TIMEFRAMES[timeframe])


def made_of(timeframe: str) -> tuple[str, ...]:
    """The timeframes whose bars make one of `timeframe`, the finest first, itself last. Days are made of nothing else:
    their open and close are auctions, which no minute has.

    >>> made_of("15m"), made_of("1d")
    (('1m', '5m', '15m'), ('1d',))
    """
    if timeframe == DAY:
        return (DAY,)
    return tuple(name for name in INTRADAY if TIMEFRAMES[timeframe] % TIMEFRAMES[name] == 0)
