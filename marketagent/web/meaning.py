"""What an answer means: the JSON in it, or the failure that its status, its headers or its text stand for."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from marketagent.web.failures import AskedToWait, BadKey, Down, Failure, Nonsense, NotEntitled, NotFound, Rejected
from marketagent.web.strict import NotJson, NotStrict, parsed
from marketagent.web.vendor import Vendor

Read = Callable[[bytes], Any]
TWICE = 2
_FINAL_5XX = {501, 505}
_JSON = re.compile(r"\s*(|text/(plain|javascript|json)|[\w.-]+/([\w.-]+\+)?json)\s*(;.*)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Answer:
    """What came back: `body` is unpacked, None if it could not be had whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


def content(vendor: Vendor, answer: Answer, now: float, read: Read = parsed) -> Any:
    """The JSON of a good answer, read by `read`; raises the Failure that any other one means."""
    good = 200 <= answer.status < 300
    found = _json(vendor, answer, read) if good else _json_or_none(answer)
    status = vendor.reading(answer.status, found) if vendor.reading else answer.status
    if good and status == answer.status:
        return found
    failure = _failure(vendor, status, answer, found, now)
    failure.status = status
    raise failure


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that ``Retry-After`` asks for, at least 0; None if there is none that can be read.

    A date is measured against the server's own ``Date``, so that our clock does not matter (RFC 9110, 10.2.3).

    >>> retry_after({"retry-after": "-5"}, 0.0), retry_after({"retry-after": "soon"}, 0.0)
    (0.0, None)
    >>> retry_after({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 0.0)
    30.0
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"[+-]?\d{1,30}(\.\d{1,30})?", text, re.ASCII):
        return max(0.0, float(text))
    until = instant(text)
    if until is None:
        return None
    since = instant(headers.get("date", ""))
    return max(0.0, until - (now if since is None else since))


def instant(text: str) -> float | None:
    """Unix seconds of an HTTP date, None if `text` is none."""
    try:
        found = parsedate_to_datetime(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None  # a date that nobody can read is no date


def _json(vendor: Vendor, answer: Answer, read: Read) -> Any:
    body = answer.body or b""
    start = vendor.safe(body[:400].decode("utf-8", "replace"), 80)
    kind = answer.headers.get("content-type", "")
    if answer.status not in {200, 201, 202, 203, 207} or not body.strip():
        raise Nonsense(f"{vendor.name} sent an empty or partial answer ({answer.status})", tries=TWICE)
    if "html" in kind.lower() or body.lstrip()[:1] == b"<":
        raise Nonsense(f"{vendor.name} sent HTML, not JSON ({start})", tries=TWICE)
    if not _JSON.fullmatch(kind):
        raise Nonsense(f"{vendor.name} sent {vendor.safe(kind, 60)}, not JSON ({start})", tries=TWICE)
    try:
        return read(body)
    except NotJson as error:
        raise Nonsense(f"{vendor.name} sent no whole JSON: {vendor.safe(error)} ({start})", tries=TWICE) from None
    except NotStrict as error:
        raise Nonsense(f"{vendor.name} sent JSON that cannot be trusted: {vendor.safe(error)}") from None


def _json_or_none(answer: Answer) -> Any:
    try:
        return parsed(answer.body or b"")
    except (NotJson, NotStrict):
        return None  # of an error only the status is sure


def _failure(vendor: Vendor, status: int, answer: Answer, found: Any, now: float) -> Failure:
    asked = retry_after(answer.headers, now)
    said = _said(vendor, found, answer)
    what = f"{status}: {said}" if said else str(status)
    if status == 429:
        wait_s = vendor.pause_s if asked is None else asked
        return AskedToWait(f"busy: {vendor.name} asks to wait {wait_s:.0f} s ({what})", wait_s)
    if status >= 500 or status in {408, 425}:
        failure = Down(f"{vendor.name} is out of order ({what})")
        failure.wait_s = asked or 0.0
        failure.tries = 1 if status in _FINAL_5XX else failure.tries
        return failure
    if status == 401:
        return BadKey(f"{vendor.name} does not know the key ({what}); look at: ma config")
    if status in {402, 403}:
        return NotEntitled(f"{vendor.name} does not give this to the key's plan or account ({what})")
    if status == 404:
        return NotFound(f"{vendor.name} has nothing there ({what})")
    if 300 <= status < 400:
        to = vendor.safe(answer.headers.get("location", "nowhere"), 80)
        return Nonsense(f"{vendor.name} answers with a redirect ({status}, {to}); not followed, it could take the key")
    return Rejected(f"{vendor.name} refuses the request ({what})")


def _said(vendor: Vendor, found: Any, answer: Answer) -> str:
    """The vendor's own words: they lie under several names, one of them nested (OpenAI, Anthropic)."""
    if isinstance(found, dict):
        for name in ("message", "error", "error_message", "detail"):
            text = found.get(name)
            text = text.get("message") if isinstance(text, dict) else text
            if isinstance(text, str) and text.strip():
                return vendor.safe(text)
    return vendor.safe((answer.body or b"")[:400].decode("utf-8", "replace"), 80)
