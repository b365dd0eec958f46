"""Which vendors have a stream, and what of the settings each one needs."""

from datetime import timedelta
from urllib.parse import urlsplit

from marketagent.config import Settings
from marketagent.errors import BadConfig, UsageError, did_you_mean
from marketagent.streams.alpaca import Alpaca
from marketagent.streams.frames import Wire
from marketagent.streams.polygon import Polygon
from marketagent.web.known import key

KEYS = {"polygon": ("polygon",), "alpaca": ("alpaca_id", "alpaca_secret")}
KINDS = ("bars", "trades", "quotes")
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
    keys = [key(settings, name, vendor, *KEYS[vendor]) for name in KEYS[vendor]]
    if place.stream_url is None:
        raise BadConfig(f"vendors.{vendor}.stream_url is not set")
    if vendor == "polygon":
        return Polygon(place.stream_url, keys[0], feed=place.feed or "")
    return Alpaca(place.stream_url, keys[0], keys[1], feed=place.feed or "iex")


def delay(settings: Settings, vendor: str) -> timedelta:
    """By how much the vendor's stream is behind the market, as its address says."""
    place = settings.places[vendor]
    host = urlsplit(place.stream_url or "").hostname or ""
    return _DELAY if host.startswith("delayed") or (place.feed or "").startswith("delayed") else timedelta(0)
