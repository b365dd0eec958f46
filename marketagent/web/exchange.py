"""One request and its answer on the wire: a deadline over all of it, and no exception of httpx goes further.

An exception of httpx carries the request, and with it the key. So it is turned into a Failure here, and that is
raised where the other is no longer anybody's cause or context.
"""

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import anyio
import httpx

from marketagent.web import body
from marketagent.web.failures import Down, Failure, Nonsense
from marketagent.web.meaning import Answer
from marketagent.web.vendor import Vendor

_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy", "httpcore.socks")


def http_client(vendor: Vendor, concurrency: int, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """httpx set up for `vendor`: no redirects, no cookies kept, the key in the headers."""
    plain = vendor.origin[0] == "http"
    return httpx.AsyncClient(
        # Plain http needs no certificates, and reading them takes 40 ms; this context would trust nobody.
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
        headers={"accept": "application/json", "accept-encoding": body.ACCEPTED, "user-agent": "market-agent"}
        | dict(vendor.headers),
        transport=transport,
        follow_redirects=False,
        # httpx counts its read timeout anew with each byte; the deadline of `exchange` does not.
        timeout=httpx.Timeout(vendor.deadline_s, pool=None),
        limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        trust_env=not vendor.is_loopback,  # a proxy of the environment does not lead to this machine
    )


async def exchange(http: httpx.AsyncClient, vendor: Vendor, url: str) -> Answer | Failure:
    """GET `url`; the whole answer or what went wrong, within ``vendor.deadline_s``."""
    result: Answer | Failure | None = None
    with anyio.move_on_after(vendor.deadline_s) as scope:
        result = await _answered(http, vendor, url)
    if scope.cancelled_caught or result is None:
        return Down(f"{vendor.name} gave no whole answer within {vendor.deadline_s:g} s")
    return result


async def _answered(http: httpx.AsyncClient, vendor: Vendor, url: str) -> Answer | Failure:
    try:
        async with http.stream("GET", url) as response:
            status = response.status_code
            headers = {name: vendor.safe(value, 2000) for name, value in response.headers.items()}
            try:
                data = await body.read(_raw(response), headers, vendor.max_bytes)
            except (body.Cut, body.Unreadable, httpx.TransportError) as error:
                if not 200 <= status < 300:
                    return Answer(status, headers, None)  # the status says it all
                return _body_failure(vendor, error)
            return Answer(status, headers, vendor.without_key(data))
    except httpx.TransportError as error:
        return _transport_failure(vendor, error)


def _raw(response: httpx.Response) -> httpx.AsyncByteStream:
    # As it came: `response.aiter_bytes` would unpack it without asking for its end.
    return cast(httpx.AsyncByteStream, response.stream)


def _body_failure(vendor: Vendor, error: Exception) -> Failure:
    if isinstance(error, body.Unreadable):
        return Nonsense(f"{vendor.name} sent a body that is not taken: {vendor.safe(error)}")
    if isinstance(error, body.Cut):
        return Down(f"{vendor.name} sent a body that is not whole: {vendor.safe(error)}")
    return _transport_failure(vendor, error)


def _transport_failure(vendor: Vendor, error: Exception) -> Failure:
    reason = vendor.safe(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return Down(f"{vendor.name} gave no whole answer within {vendor.deadline_s:g} s")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        failure = Down(f"{vendor.name} cannot prove that it is {vendor.origin[1]} ({reason})")
        failure.tries = 1
        return failure
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return Down(f"{vendor.name} cannot be reached at {vendor.origin[1]} ({reason})")
    return Down(f"{vendor.name} broke off its answer ({reason})")


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
