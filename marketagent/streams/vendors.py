"""Which vendors have a stream, and what of the settings each one needs."""

from datetime import timedelta
from urllib.parse import urlsplit

from marketagent.config import Settings
from marketagent.errors import BadConfig, UsageError, did_you_mean
from marketagent.sources import alpaca, polygon
from marketagent.streams.alpaca import Alpaca
from marketagent.streams.frames import Wire
from marketagent.streams.gaps import AlpacaGaps, Gaps, PolygonGaps
from marketagent.streams.polygon import Polygon
from marketagent.web import known
from marketagent.web.client import Client

KEYS = {"polygon": ("polygon",), "alpaca": ("alpaca_id", "alpaca_secret")}
KINDS = ("bars", "trades", "quotes")
_AT_ONCE = 8  # requests for gaps
_DELAY = timedelta(minutes=15)  # of the feeds that are called delayed


def chosen(settings: Settings, source: str | None) -> str:
    """The vendor called `source`, or the first of the configured sources that has a stream and a key.

    Raises UsageError for a name that is none, NoKey when no key is set, BadConfig when no source has a stream.
    """
    if source is not None:
        if source not in KEYS:
            raise UsageError(f"no stream from {source!r}{did_you_mean(source, KEYS)} (there are: {', '.join(KEYS)})")
        return source
    streaming = [name for name in settings.sources if name in KEYS]
    if not streaming:
        raise BadConfig(
            f"none of the sources ({', '.join(settings.sources)}) has a stream; use --source polygon or alpaca"
        )
    return next((name for name in streaming if all(settings.keys.get(each) for each in KEYS[name])), streaming[0])


def wire(settings: Settings, vendor: str) -> Wire:
    """The protocol of `vendor` at its place; raises NoKey."""
    place = settings.places[vendor]
    keys = [known.key(settings, name, vendor, *KEYS[vendor]) for name in KEYS[vendor]]
    if place.stream_url is None:
        raise BadConfig(f"vendors.{vendor}.stream_url is not set")
    # Bars of a stream and of a fetch must be of one feed, or each would supersede the other's.
    if vendor == "polygon":
        return Polygon(place.stream_url, keys[0], polygon.feed(settings))
    return Alpaca(place.stream_url, keys[0], keys[1], str(place.feed), alpaca.feed(settings))


def rest(settings: Settings, vendor: str) -> Client:
    """The client of the vendor's REST interface, for gaps."""
    found = known.polygon(settings) if vendor == "polygon" else known.alpaca_data(settings)
    return Client(found, settings.home, concurrency=_AT_ONCE, max_wait_s=settings.max_wait_s)


def gaps(settings: Settings, vendor: str, client: Client) -> Gaps:
    """How minutes that the stream missed are asked for through `client`."""
    if vendor == "polygon":
        return PolygonGaps(client, polygon.feed(settings))
    return AlpacaGaps(client, str(settings.places[vendor].feed), alpaca.feed(settings))


def delay(settings: Settings, vendor: str) -> timedelta:
    """By how much the vendor's stream is behind the market, as its address says."""
    place = settings.places[vendor]
    host = urlsplit(place.stream_url or "").hostname or ""
    return _DELAY if host.startswith("delayed") or (place.feed or "").startswith("delayed") else timedelta(0)
