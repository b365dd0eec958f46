"""From one page to the next, without being led astray: only path and query of a link are taken, never its host."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from marketagent.web.failures import Nonsense
from marketagent.web.vendor import Vendor, origin_of

Params = Mapping[str, str | int | float | bool | None]
Link = str | Mapping[str, str | int | float | bool | None] | None


def target(vendor: Vendor, path: str, params: Params | None = None) -> str:
    """Path and query of a request to `vendor`. A None among `params` is left out.

    Raises ValueError for a path that is none, or that would carry the key: put it in a header.
    """
    if not path.startswith("/") or path.startswith("//") or _is_odd(path) or set("?#") & set(path):
        raise ValueError(f"not a path: {path!r}")
    if {"..", "."} & set(path.split("/")):
        raise ValueError(f"a path that climbs: {path!r}")
    query = {name: _text(value) for name, value in (params or {}).items() if value is not None}
    whole = urlsplit(vendor.base_url).path.rstrip("/") + path
    if query:
        whole += "?" + urlencode(query, quote_via=quote, safe=",:")
    if any(secret in whole for secret in vendor.secrets()):
        raise ValueError("a key in a URL ends in somebody's log; it belongs in a header")
    return whole


def following(vendor: Vendor, link: Any) -> str:
    """Path and query of a `next_url`, for our own base; Nonsense if it names an origin that is not the vendor's."""
    if not isinstance(link, str) or _is_odd(link) or not (_is_local(link) or origin_of(link) in vendor.known_origins):
        raise Nonsense(f"{vendor.name} points to another place for the next page ({vendor.safe(link)}); not followed")
    parts = urlsplit(link)
    if {"..", "."} & set(parts.path.split("/")) or not parts.path.startswith("/"):
        raise Nonsense(f"{vendor.name} gave a next page without a plain path ({vendor.safe(link)}); not followed")
    query = parts.query
    if "***" in query or any(secret in query for secret in vendor.secrets()):
        # It sent our key back, which is crossed out where it came in; the key goes in the header only.
        ours = {"***", *vendor.secrets()}
        query = urlencode([pair for pair in parse_qsl(query, keep_blank_values=True) if pair[1] not in ours])
    return parts.path + (f"?{query}" if query else "")


def _is_local(link: str) -> bool:
    return link.startswith("/") and not link.startswith("//")


def _is_odd(text: str) -> bool:
    return not (text.isascii() and text.isprintable()) or " " in text or "\\" in text


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
