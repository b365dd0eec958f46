"""Where each vendor is to be found and how often it may be asked, as data: hosts, feeds and limits of its usual plan.

Every base URL is configuration, in ``config.toml`` under [vendors.NAME] or in one environment variable: that is how
``ma sandbox`` takes a vendor's place.
"""

import ipaddress
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from marketagent.errors import BadConfig, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Place:
    """One vendor. `data_url` is where bars are, if not at `base_url`; `calls_per_minute` 0: as often as we like."""

    base_url: str
    data_url: str | None = None
    stream_url: str | None = None
    feed: str | None = None
    calls_per_minute: float = 0.0

    @property
    def is_local(self) -> bool:
        """Whether all of it is on this machine."""
        return all(is_loopback(url) for url in (self.base_url, self.data_url, self.stream_url) if url)


DEFAULTS = {
    "polygon": Place(
        base_url="https://api.polygon.io",
        stream_url="wss://socket.polygon.io",
        calls_per_minute=5,  # the free plan; paid ones have no limit: 0
    ),
    "alpaca": Place(
        base_url="https://paper-api.alpaca.markets",
        data_url="https://data.alpaca.markets",
        stream_url="wss://stream.data.alpaca.markets",
        feed="iex",  # what every plan has; sip, delayed_sip, ... with one that pays for it
        calls_per_minute=200,
    ),
    "bullaware": Place(base_url="https://api.bullaware.com", calls_per_minute=10),
}
VARIABLES = {
    ("polygon", "base_url"): "POLYGON_BASE_URL",
    ("polygon", "stream_url"): "POLYGON_STREAM_URL",
    ("polygon", "calls_per_minute"): "POLYGON_CALLS_PER_MINUTE",
    ("alpaca", "base_url"): "APCA_API_BASE_URL",
    ("alpaca", "data_url"): "APCA_API_DATA_URL",
    ("alpaca", "stream_url"): "APCA_API_STREAM_URL",
    ("alpaca", "feed"): "ALPACA_FEED",
    ("alpaca", "calls_per_minute"): "ALPACA_CALLS_PER_MINUTE",
    ("bullaware", "base_url"): "BULLAWARE_BASE_URL",
    ("bullaware", "calls_per_minute"): "BULLAWARE_CALLS_PER_MINUTE",
}
FEEDS = ("iex", "sip", "delayed_sip", "boats", "otc", "overnight")


def place(name: str, table: Any, path: Path, environ: Mapping[str, str]) -> tuple[Place, dict[str, str]]:
    """The place of vendor `name`: its default, changed by `table` of the file `path`, changed by the environment.

    With it, where each changed setting came from. Raises BadConfig.
    """
    if not isinstance(table, dict):
        raise BadConfig(f"{path}: vendors.{name} must be a table, e.g. [vendors.{name}] then calls_per_minute = 5")
    known = [each.name for each in fields(Place) if getattr(DEFAULTS[name], each.name) is not None]
    for setting in table:
        if setting not in known:
            raise BadConfig(f"{path}: unknown setting {setting!r} of vendor {name}{did_you_mean(setting, known)}")
    values = {
        setting: _checked(setting, value, f"{path}: vendors.{name}.{setting}") for setting, value in table.items()
    }
    origins = dict.fromkeys(values, path.name)
    for (vendor, setting), variable in VARIABLES.items():
        if vendor == name and environ.get(variable):
            values[setting] = _checked(setting, _number(environ[variable], setting), variable)
            origins[setting] = variable
    return replace(DEFAULTS[name], **values), origins


def is_loopback(url: str) -> bool:
    """Whether `url` leads to this machine.

    >>> is_loopback("http://127.0.0.1:8777"), is_loopback("wss://socket.polygon.io")
    (True, False)
    """
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _number(text: str, setting: str) -> Any:
    if setting != "calls_per_minute":
        return text
    try:
        return float(text)
    except ValueError:
        return text  # which `_checked` refuses, with the name


def _checked(setting: str, value: Any, name: str) -> Any:
    if setting == "calls_per_minute":
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max:
            return float(value)
        raise BadConfig(f"{name} is {value!r}; it must be a number of at least 0 (0: no limit)")
    if not isinstance(value, str):
        raise BadConfig(f"{name} is {value!r}; it must be text")
    if setting == "feed":
        if value not in FEEDS:
            raise BadConfig(f"{name} is {value!r}{did_you_mean(value, FEEDS)} (there are: {', '.join(FEEDS)})")
        return value
    return _url(value, name, ("ws", "wss") if setting == "stream_url" else ("http", "https"))


def _url(value: str, name: str, schemes: tuple[str, str]) -> str:
    """`value` as the URL of a vendor: no key in it, and in the clear only on this machine."""
    plain, safe = schemes
    try:
        parts = urlsplit(value)
        good = parts.scheme in schemes and parts.hostname and "@" not in parts.netloc and not parts.query
        good = good and parts.port != 0 and value.isascii() and value.isprintable() and " " not in value
    except ValueError:
        good = False
    if not good:
        raise BadConfig(f"{name} is {value[:80]!a}; it must look like {safe}://api.example.com")
    if urlsplit(value).scheme == plain and not is_loopback(value):
        raise BadConfig(f"{name} is {value[:80]!a}; a key goes over {safe} only, but to this machine")
    return value.rstrip("/")
