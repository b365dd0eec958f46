"""A market's prices and hours as the exchange reads them: one minute at a time, nothing later than it is told."""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from marketagent.sandbox.market import Asset, Bars, Market, Session, Split
from marketagent.sandbox.matching import Minute
from marketagent.sandbox.world import MINUTE_S, NEW_YORK

PRICE_STEP = Decimal("0.0001")
_KEPT_DAYS = 400  # of minutes of one symbol each
_SILENCE = (10, 120, 4000)  # calendar days to look back for a last price, the usual first


class Tape:
    """Keeps what it read of the market; it answers the same without."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self._minutes: dict[tuple[str, date], tuple[Minute, ...]] = {}
        self._sessions: dict[date, Session | None] = {}

    def session(self, day: date) -> Session | None:
        if day not in self._sessions:
            found = self.market.sessions(day, day)
            self._sessions[day] = found[0] if found else None
        return self._sessions[day]

    def next_session(self, at: datetime) -> Session | None:
        """The session that is open at `at`, or the next one to open; None after the market's last."""
        day = new_york_day(at)
        for session in self._coming(day):
            if session.close_at > at:
                return session
        return None

    def next_open(self, at: datetime) -> Session | None:
        """The next session to open after `at`."""
        return next((one for one in self._coming(new_york_day(at)) if one.open_at > at), None)

    def last_closed(self, at: datetime) -> Session | None:
        """The last session that closed on a day before the one of `at`."""
        day = new_york_day(at)
        found = self.market.sessions(day - timedelta(days=15), day - timedelta(days=1))
        return found[-1] if found else None

    def is_open(self, at: datetime) -> bool:
        session = self.session(new_york_day(at))
        return session is not None and session.open_at <= at < session.close_at

    def minute(self, symbol: str, start: int) -> Minute | None:
        """The bar that starts at `start`; None in a halt, or when nobody traded."""
        bars = self._day(symbol, new_york_day(datetime.fromtimestamp(start, UTC)))
        place = bisect_right(bars, start, key=lambda bar: bar.start) - 1
        return bars[place] if place >= 0 and bars[place].start == start else None

    def first_minute(self, symbol: str, day: date) -> Minute | None:
        bars = self._day(symbol, day)
        return bars[0] if bars else None

    def last_minute(self, symbol: str, day: date) -> Minute | None:
        bars = self._day(symbol, day)
        return bars[-1] if bars else None

    def price(self, symbol: str, at: datetime) -> Decimal | None:
        """The last price at `at`, in shares of that day; None before the first trade."""
        day, session = new_york_day(at), self.session(new_york_day(at))
        if session is None or at < session.open_at:
            return self.close_before(symbol, day)
        if at >= session.close_at:
            return self._close(symbol, day, day)
        bars, stamp = self._day(symbol, day), int(at.timestamp())
        place = bisect_right(bars, stamp, key=lambda bar: bar.start) - 1
        if place < 0:
            return self.close_before(symbol, day)
        return bars[place].open if stamp < bars[place].start + MINUTE_S else bars[place].close

    def close_before(self, symbol: str, day: date) -> Decimal | None:
        """The last close before `day`, in shares of `day`."""
        return self._close(symbol, day - timedelta(days=1), day)

    def _close(self, symbol: str, last: date, day: date) -> Decimal | None:
        """The last close up to `last`, in shares of `day`."""
        for days in _SILENCE:
            bars = self.market.days(symbol, last - timedelta(days=days), last)
            if len(bars.start):
                traded = new_york_day(datetime.fromtimestamp(int(bars.start[-1]), UTC))
                ratio = self.ratio(symbol, traded + timedelta(days=1), day)
                return (money(float(bars.close[-1])) / ratio).quantize(PRICE_STEP)
        return None

    def splits(self, symbol: str, first: date, last: date) -> Sequence[Split]:
        return self.market.splits(symbol, first, last) if first <= last else ()

    def ratio(self, symbol: str, first: date, last: date) -> Decimal:
        """New shares for one old share by all splits from `first` to `last`."""
        ratio = Decimal(1)
        for split in self.splits(symbol, first, last):
            ratio *= shares(split)
        return ratio

    def asset(self, symbol: str) -> Asset | None:
        return self.market.asset(symbol)

    def _coming(self, day: date) -> Sequence[Session]:
        return self.market.sessions(day, day + timedelta(days=15))

    def _day(self, symbol: str, day: date) -> tuple[Minute, ...]:
        key = (symbol, day)
        if key not in self._minutes:
            if len(self._minutes) >= _KEPT_DAYS:
                self._minutes.clear()
            known = self.session(day) is not None
            self._minutes[key] = _read(self.market.minutes(symbol, day)) if known else ()
        return self._minutes[key]


def new_york_day(at: datetime) -> date:
    return at.astimezone(NEW_YORK).date()


def money(price: float) -> Decimal:
    """A market's price to a hundredth of a cent."""
    return Decimal(repr(price)).quantize(PRICE_STEP)


def shares(split: Split) -> Decimal:
    """New shares for one old one."""
    return Decimal(repr(split.new)) / Decimal(repr(split.old))


def _read(bars: Bars) -> tuple[Minute, ...]:
    columns = (bars.start, bars.open, bars.high, bars.low, bars.close, bars.volume)
    return tuple(
        Minute(start, money(opened), money(high), money(low), money(close), int(volume))
        for start, opened, high, low, close, volume in zip(*(column.tolist() for column in columns), strict=True)
    )
