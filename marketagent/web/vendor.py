"""A provider as data: all that the client must know to talk to it, and nothing about what it says."""

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

from marketagent.config import Secret
from marketagent.errors import BadConfig
from marketagent.limits import Limit
from marketagent.show import clean

_PORTS = {"https": 443, "http": 80}
_SHORTEST = 6  # as in `redact`: what is shorter is no key

Origin = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True)
class Vendor:
    """`name` for people, `base_url`, and `headers` that carry the key: nothing else may.

    `origins` are further origins its links may name (Polygon's say massive.com); they are never called.
    `deadline_s` holds for one try as a whole, `max_bytes` for a body, packed or unpacked. `pause_s` is the silence
    after a 429 that does not say how long. `reading` may correct a status by the body: Polygon sends an exceeded
    limit with 200. Raises BadConfig for a base URL that could carry the key to somebody else.
    """

    name: str
    base_url: str
    headers: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    limits: tuple[Limit, ...] = ()
    breaker: str = ""
    origins: tuple[str, ...] = ()
    deadline_s: float = 30.0
    max_bytes: int = 64 * 1024 * 1024
    tries: int = 3
    pause_s: float = 60.0
    reading: Callable[[int, Any], int] | None = None

    def __post_init__(self) -> None:
        scheme, host, _ = _origin(self.base_url, self.name)
        if scheme == "http" and not _is_loopback(host):
            raise BadConfig(f"the base URL of {self.name} is {clean(self.base_url)}; a key goes over https only")
        if urlsplit(self.base_url).query or urlsplit(self.base_url).fragment:
            raise BadConfig(f"the base URL of {self.name} is {clean(self.base_url)}; it must end with a path")
        for name, value in self.headers.items():
            if not (value.isascii() and value.isprintable() and value == value.strip() and value):
                raise BadConfig(f"the key of {self.name} ({name}) has signs that no key has; set it again")

    @cached_property
    def origin(self) -> Origin:
        return _origin(self.base_url, self.name)

    @property
    def is_loopback(self) -> bool:
        return _is_loopback(self.origin[1])

    @property
    def known_origins(self) -> set[Origin]:
        return {self.origin, *(_origin(url, self.name) for url in self.origins)}

    def secrets(self) -> tuple[str, ...]:
        """Every text that must not be seen, longest first: each header's value, its last word, both as in a URL, too."""
        return self._secrets

    @cached_property
    def _secrets(self) -> tuple[str, ...]:
        values = {form for value in self.headers.values() for form in (str(value), str(value).rpartition(" ")[2])}
        long = {value for value in values if len(value) >= _SHORTEST}
        forms = {form for value in long for form in (value, quote(value, safe=""), quote_plus(value))}
        return tuple(sorted(forms, key=len, reverse=True))

    def without_key(self, data: bytes) -> bytes:
        """`data` of the provider as it may be kept: some send the key back, in an error or in a link."""
        for secret in self.secrets():
            data = data.replace(secret.encode("ascii"), b"***")
        return data

    def safe(self, text: object, longest: int = 200) -> str:
        """`text` of the provider on one line, without control characters and without the key."""
        line = " ".join(clean(str(text)).split())
        for secret in self.secrets():
            line = line.replace(secret, "***")
        return line if len(line) <= longest else line[:longest] + "…"


def origin_of(url: str) -> Origin | None:
    """Scheme, host and port of an absolute URL; None if it has user information, another scheme or no host.

    >>> origin_of("https://API.polygon.io:443/v2?x=1")
    ('https', 'api.polygon.io', 443)
    >>> origin_of("https://api.polygon.io@evil.example/") is None
    True
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or "\\" in url:
        return None
    return parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port


def _origin(url: str, name: str) -> Origin:
    found = origin_of(url)
    if found is None or not url.isascii() or not url.isprintable() or " " in url:
        raise BadConfig(f"the base URL of {name} is {clean(url)!r}; it must look like https://api.example.com")
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
