"""What a question about Alpaca's market data asks for: symbols, a span, a feed, a page. Refuses what it cannot."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TypeVar

from marketagent.sandbox.alpaca_http import is_basic, moment, whole
from marketagent.sandbox.market import Asset
from marketagent.sandbox.names import company
from marketagent.sandbox.refusal import Refusal
from marketagent.sandbox.tape import new_york_day
from marketagent.sandbox.world import NEW_YORK, SandboxWorld

FEEDS = ("sip", "iex", "delayed_sip", "otc", "boats", "overnight")
EMBARGO = timedelta(minutes=15)
MOST = 10_000
T = TypeVar("T")
RECENT_SIP = "subscription does not permit querying recent SIP data"


@dataclass(frozen=True, kw_only=True)
class Query:
    """`names` maps what was asked for to the company meant; both ends are inclusive; `after` is where the page begins.

    `until` is what the plan and the feed let see: never later than now.
    """

    names: Mapping[str, Asset]
    start: datetime
    end: datetime
    feed: str
    limit: int
    descending: bool
    after: tuple[str, int] | None


def query(world: SandboxWorld, key_id: str, asked: Mapping[str, str], symbols: str, *, limit: int = 1000) -> Query:
    """Raises Refusal: 400 for what cannot be understood, 403 for what the plan does not include."""
    now = world.now()
    feed = feed_of(asked, key_id)
    start = instant(asked.get("start"), "start") or datetime.combine(new_york_day(now), time(0), NEW_YORK)
    end = instant(asked.get("end"), "end", last=True)
    newest = now - EMBARGO if feed == "delayed_sip" or (feed == "sip" and is_basic(key_id)) else now
    if end is not None and end > newest and feed == "sip" and is_basic(key_id) and start <= now:
        raise Refusal(403, None, RECENT_SIP)
    end = min(end or newest, newest)
    if asked.get("sort", "asc") not in ("asc", "desc"):
        raise Refusal(400, None, f"invalid sort: {asked['sort'][:40]}")
    if asked.get("currency", "USD") != "USD":
        raise Refusal(400, None, f"invalid currency: {asked['currency'][:40]}")
    return Query(
        names=companies(world, symbols, asked.get("asof")),
        start=start.astimezone(UTC),
        end=end.astimezone(UTC),
        feed=feed,
        limit=count(asked.get("limit"), limit, MOST),
        descending=asked.get("sort") == "desc",
        after=_after(asked.get("page_token")),
    )


def companies(world: SandboxWorld, symbols: str, asof: str | None = None) -> dict[str, Asset]:
    """The companies called `symbols` on the day `asof`, today by default; "-" takes names for what they always were."""
    wanted = sorted({name for name in symbols.split(",") if name})
    if not wanted:
        raise Refusal(400, None, "symbols is required")
    today = new_york_day(world.now())
    if asof in (None, "", "-"):
        day = today
    else:
        meant = instant(asof, "asof")
        day = min(new_york_day(meant), today) if meant else today
    found = {name: company(world.market, name, day) for name in wanted}
    return {name: asset for name, asset in found.items() if asset is not None and asset.listed <= today}


def feed_of(asked: Mapping[str, str], key_id: str) -> str:
    """The feed asked for, by default the best one of the plan."""
    feed = asked.get("feed") or ("iex" if is_basic(key_id) else "sip")
    if feed not in FEEDS:
        raise Refusal(400, None, f"invalid feed: {feed[:40]}")
    if is_basic(key_id) and feed in ("otc", "boats", "overnight"):
        raise Refusal(403, None, f"subscription does not permit querying {feed.upper()} data")
    return feed


def page_token(name: str, at_ns: int) -> str:
    """Where a page ended: the next one begins behind it."""
    return base64.urlsafe_b64encode(f"{name}|{at_ns}".encode()).decode()


def instant(text: str | None, name: str, *, last: bool = False) -> datetime | None:
    """A time as written; a date is New York's whole day, from its midnight or, if `last`, to its end."""
    if not text:
        return None
    try:
        found = moment(text, name)
    except Refusal as no:
        raise Refusal(400, None, no.message) from None
    if len(text) > 10:
        return found
    midnight = datetime.combine(found.date() + timedelta(days=1 if last else 0), time(0), NEW_YORK)
    return midnight - timedelta(microseconds=1 if last else 0)


def count(text: str | None, default: int, most: int) -> int:
    """The limit of a page. Raises Refusal, 400."""
    try:
        return whole(text, "limit", default, most)
    except Refusal as no:
        raise Refusal(400, None, no.message) from None


def cut_out(found: Sequence[T], asked: Mapping[str, str], default: int, most: int) -> tuple[Sequence[T], str | None]:
    """The page of `found` that `limit` and `page_token` ask for, and the token of the next. Raises Refusal, 400."""
    limit, begin, token = count(asked.get("limit"), default, most), 0, asked.get("page_token")
    if token:
        try:
            begin = int(base64.urlsafe_b64decode(token).decode())
        except (binascii.Error, ValueError):
            raise Refusal(400, None, f"invalid page_token: {token[:80]}") from None
    more = begin + limit < len(found)
    following = base64.urlsafe_b64encode(str(begin + limit).encode()).decode() if more else None
    return found[begin : begin + limit], following


def _after(token: str | None) -> tuple[str, int] | None:
    if not token:
        return None
    try:
        name, _, at = base64.urlsafe_b64decode(token).decode().rpartition("|")
        return name, int(at)
    except (binascii.Error, ValueError):
        raise Refusal(400, None, f"invalid page_token: {token[:80]}") from None
