"""One request and its answer on the wire: a deadline over all of it, and no exception of aiohttp goes further.

An exception of aiohttp carries the request, and with it the key. So it is turned into a Failure here, and that is
raised where the other is no longer anybody's cause or context.

aiohttp, not httpx: with 100 requests in flight httpx's pool looks at every connection before every request, and 500
requests that a server answers in 0.3 s took it 7 s (benchmarks/fetch.py).
"""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import anyio
from yarl import URL

from marketagent.web import body
from marketagent.web.failures import Down, Failure, Nonsense
from marketagent.web.meaning import Answer
from marketagent.web.vendor import Vendor

_READ = ("age", "content-encoding", "content-length", "content-type", "date", "location", "retry-after")
_LOGGERS = ("aiohttp.client", "aiohttp.internal", "asyncio")


def http_session(vendor: Vendor, concurrency: int) -> aiohttp.ClientSession:
    """aiohttp set up for `vendor`: no cookies kept, nothing unpacked, the key in the headers. Call it in the loop."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency),
        headers={"accept": "application/json", "accept-encoding": body.ACCEPTED, "user-agent": "market-agent"}
        | dict(vendor.headers),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(),  # none: the deadline of `exchange` holds for all of it
        trust_env=not vendor.is_loopback,  # a proxy of the environment does not lead to this machine
    )
    # Private, and there is no public word for it: aiohttp sends a GET again when its connection breaks, unasked. Tries
    # are counted by the limiter and the breaker; one that nobody counts is a call too many.
    session._retry_connection = False
    return session


async def exchange(http: aiohttp.ClientSession, vendor: Vendor, url: str) -> Answer | Failure:
    """GET `url`; the whole answer or what went wrong, within ``vendor.deadline_s``."""
    result: Answer | Failure | None = None
    with anyio.move_on_after(vendor.deadline_s) as scope:
        result = await _answered(http, vendor, url)
    if scope.cancelled_caught or result is None:
        return Down(f"{vendor.name} gave no whole answer within {vendor.deadline_s:g} s")
    return result


async def _answered(http: aiohttp.ClientSession, vendor: Vendor, url: str) -> Answer | Failure:
    try:
        # Encoded already: the path of a next page is sent as the vendor wrote it.
        async with http.get(URL(url, encoded=True), allow_redirects=False) as response:
            status = response.status
            named = response.headers
            headers = {name: vendor.safe(named[name], 2000) for name in _READ if name in named}
            try:
                data = await body.read(_raw(response), headers, vendor.max_bytes)
            except (body.Cut, body.Unreadable, aiohttp.ClientError, OSError) as error:
                if not 200 <= status < 300:
                    return Answer(status, headers, None)  # the status says it all
                return _body_failure(vendor, error)
            return Answer(status, headers, vendor.without_key(data))
    except (aiohttp.ClientError, OSError) as error:
        return _transport_failure(vendor, error)


def _raw(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    return response.content.iter_any()


def _body_failure(vendor: Vendor, error: Exception) -> Failure:
    if isinstance(error, body.Unreadable):
        return Nonsense(f"{vendor.name} sent a body that is not taken: {vendor.safe(error)}")
    if isinstance(error, body.Cut):
        return Down(f"{vendor.name} sent a body that is not whole: {vendor.safe(error)}")
    return _transport_failure(vendor, error)


def _transport_failure(vendor: Vendor, error: Exception) -> Failure:
    reason = vendor.safe(_plain(error)) or type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        failure = Down(f"{vendor.name} cannot prove that it is {vendor.origin[1]} ({reason})")
        failure.tries = 1
        return failure
    if isinstance(error, aiohttp.ClientConnectorError):
        return Down(f"{vendor.name} cannot be reached at {vendor.origin[1]} ({reason})")
    return Down(f"{vendor.name} broke off its answer ({reason})")


def _plain(error: Exception) -> str:
    """What the system or the server did, without aiohttp's names for it."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error)
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the body ended early"
    return str(error)


@contextmanager
def quiet_logs(vendor: Vendor) -> Iterator[None]:
    """While it lasts, nothing of the key is in a log line of the libraries below."""

    def without_key(record: logging.LogRecord) -> bool:
        record.msg, record.args = vendor.safe(record.getMessage(), 2000), ()
        return True

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(without_key)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(without_key)
