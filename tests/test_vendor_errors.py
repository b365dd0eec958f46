"""What our client makes of each row of the vendors' error tables, as the fact sheets have them, over real sockets."""

import json

import anyio
import pytest
from faulty import reply, serving
from prices import new_home
from worlds import Clock

from marketagent.config import Settings
from marketagent.web.client import Client
from marketagent.web.failures import AskedToWait, BadKey, Down, Failure, Nonsense, NotEntitled, NotFound, Rejected
from marketagent.web.known import alpaca_data, polygon

POLYGON = [
    ("400 Bad Request", {"status": "ERROR", "request_id": "r", "error": "bad sort"}, Rejected, "bad sort", 1),
    ("401 Unauthorized", {"status": "ERROR", "request_id": "r", "error": "Unknown API Key"}, BadKey, "Unknown API", 1),
    (
        "403 Forbidden",
        {"status": "NOT_AUTHORIZED", "request_id": "r", "message": "You are not entitled to this data. Upgrade."},
        NotEntitled,
        "You are not entitled",
        1,
    ),
    (
        "403 Forbidden",
        {"status": "NOT_AUTHORIZED", "request_id": "r", "message": "Your plan doesn't include this data timeframe."},
        NotEntitled,
        "doesn't include this data timeframe",
        1,
    ),
    (
        "404 Not Found",
        {"status": "NOT_FOUND", "request_id": "r", "message": "Ticker not found."},
        NotFound,
        "Ticker",
        1,
    ),
    ("404 Not Found", {"status": "NOT_FOUND", "request_id": "r", "error": "Data not found."}, NotFound, "Data not", 1),
    ("404 Not Found", b"404 page not found", NotFound, "404 page not found", 1),
    (
        "429 Too Many Requests",
        {"status": "ERROR", "request_id": "r", "error": "You've exceeded the maximum requests per minute."},
        AskedToWait,
        "exceeded the maximum",
        3,
    ),
    (
        "200 OK",
        {"status": "ERROR", "request_id": "r", "error": "You've exceeded the maximum requests per minute."},
        AskedToWait,
        "exceeded the maximum",
        3,
    ),
    ("200 OK", {"status": "NOT_AUTHORIZED", "message": "Your plan doesn't include this."}, NotEntitled, "plan", 1),
    ("200 OK", {"status": "NOT_FOUND", "message": "nothing"}, NotFound, "nothing", 1),
    ("200 OK", {"status": "ERROR", "error": "Unknown API Key"}, BadKey, "Unknown API Key", 1),
    ("200 OK", {"status": "ERROR", "error": "a bad day"}, Down, "a bad day", 3),
    ("500 Internal Server Error", {"status": "ERROR", "error": "oops"}, Down, "oops", 3),
    ("502 Bad Gateway", b"<html>bad gateway</html>", Down, "502", 3),
]
ALPACA = [
    ("401 Unauthorized", {"code": 40110000, "message": "request is not authorized"}, BadKey, "not authorized", 1),
    ("401 Unauthorized", b"", BadKey, "401", 1),
    ("403 Forbidden", {"message": "forbidden."}, NotEntitled, "forbidden", 1),
    (
        "403 Forbidden",
        {"code": 42210000, "message": "subscription does not permit querying recent SIP data"},
        NotEntitled,
        "recent SIP data",
        1,
    ),
    ("404 Not Found", {"code": 40410000, "message": "not found"}, NotFound, "not found", 1),
    ("400 Bad Request", {"message": "invalid symbol: BRK/B"}, Rejected, "invalid symbol", 1),
    ("422 Unprocessable Entity", {"code": 40010001, "message": "end is before start"}, Rejected, "end is before", 1),
    ("429 Too Many Requests", {"code": 42910000, "message": "rate limit exceeded."}, AskedToWait, "rate limit", 3),
    ("500 Internal Server Error", {"code": 50010000, "message": "internal server error"}, Down, "internal server", 3),
    ("504 Gateway Timeout", b"upstream request timeout", Down, "504", 3),
    ("200 OK", b"<html>hello</html>", Nonsense, "HTML, not JSON", 2),
]
KEYS = {"POLYGON_API_KEY": "k3y-CANARY-p", "APCA_API_KEY_ID": "k3y-CANARY-i", "APCA_API_SECRET_KEY": "k3y-CANARY-s"}


def asked(home, url, make):
    settings = Settings.load(
        {
            "MA_HOME": str(home),
            "POLYGON_BASE_URL": url,
            "APCA_API_DATA_URL": url,
            **KEYS,
            "POLYGON_CALLS_PER_MINUTE": "0",
        }
    )
    clock = Clock()

    async def run():
        async with Client(make(settings), home, world=clock.world(), max_wait_s=10_000) as client:
            try:
                return await client.get_json("/v2/x")
            except Failure as error:
                return error

    return anyio.run(run)


@pytest.mark.parametrize(
    ("make", "status", "body", "kind", "said", "tries"),
    [(polygon, *row) for row in POLYGON] + [(alpaca_data, *row) for row in ALPACA],
)
def test_each_row_of_the_error_tables_is_told_apart(tmp_path, make, status, body, kind, said, tries):
    home = new_home(tmp_path)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind_of_body = "text/html" if data[:1] == b"<" else "application/json"
    with serving(reply(data, status, kind_of_body)) as server:
        error = asked(home, server.url, make)
        assert type(error) is kind, error
        assert said in str(error)
        assert "CANARY" not in str(error)
        assert len(server.asked) == tries
