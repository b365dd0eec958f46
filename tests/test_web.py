"""The web client against servers that misbehave, over real sockets; clock, waits and dice are the test's.

The cases are those of RELIABILITY, E8, by their numbers.
"""

import gc
import gzip
import io
import json
import logging
import socket
import ssl
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path

import anyio
import pytest
import trustme
from faulty import drip, reply, serving, then_close, then_reset
from worlds import START, Clock

from marketagent import home as homes
from marketagent import journal
from marketagent.breaker import BreakerOpen, Rules
from marketagent.config import Secret
from marketagent.errors import Busy, MarketAgentError, NoData
from marketagent.limits import Limit, RateLimited
from marketagent.web.client import Client, gather
from marketagent.web.failures import AskedToWait, BadKey, Down, Failure, Nonsense, NotEntitled, NotFound, Rejected
from marketagent.web.vendor import Vendor

KEY = "k3y-CANARY-0123"
OK = reply()
PATIENT = Rules(threshold=1000)


@pytest.fixture
def home(tmp_path):
    home = tmp_path / "home"
    homes.create(home)
    journal.create(home)
    return home


@pytest.fixture
def clock():
    return Clock()


def vendor(url, **more):
    headers = {"Authorization": Secret(f"Bearer {KEY}"), "APCA-API-SECRET-KEY": Secret(f"{KEY}-2")}
    return Vendor(**({"name": "polygon", "base_url": url, "headers": headers, "deadline_s": 5.0} | more))


@pytest.fixture
def client(home, clock):
    """Makes clients with this test's home, clock and dice."""

    def make(url, *, seed=7, heard=None, **more):
        options = {"rules": PATIENT, "concurrency": 100, "max_wait_s": 120.0}
        ours = {name: more.pop(name) for name in options if name in more}
        tell = [].append if heard is None else heard.append
        return Client(vendor(url, **more), home, world=clock.world(seed), tell=tell, **(options | ours))

    return make


def ask(client, path="/x", times=1):
    """What each of `times` calls gave, or failed with."""

    async def main():
        results = []
        async with client:
            for _ in range(times):
                try:
                    results.append(await client.get_json(path))
                except MarketAgentError as error:
                    results.append(error)
        return results

    found = anyio.run(main)
    return found[0] if times == 1 else found


# A good answer ----------------------------------------------------------------------------------------------------


def test_an_answer_is_json_and_the_key_travels_in_the_header(client):
    with serving(OK) as server:
        assert ask(client(server.url)) == {"ok": 1}
    assert f"authorization: bearer {KEY}".lower() in server.asked[0].lower()
    assert KEY not in server.asked[0].splitlines()[0]


def test_connections_are_used_again_and_none_is_left_open(client):
    gc.collect()
    before = len(list(Path("/dev/fd").iterdir()))
    with serving(OK) as server:
        assert ask(client(server.url), times=20) == [{"ok": 1}] * 20
        assert len(server._threads) == 2  # one that accepts, one connection
    gc.collect()
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.parametrize(
    "answer",
    [
        reply(gzip.compress(b'{"ok": 1}'), Content_Encoding="gzip"),
        reply(Content_Length=None, Transfer_Encoding="chunked").replace(b'{"ok": 1}', b'9\r\n{"ok": 1}\r\n0\r\n\r\n'),
        reply(b'\xef\xbb\xbf{"ok": 1}'),
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
    ],
)
def test_every_good_form_of_an_answer_is_read(client, answer):
    with serving(answer) as server:
        assert ask(client(server.url), times=2) == [{"ok": 1}] * 2


def test_an_answer_that_ends_with_its_connection_is_read_if_it_is_whole(client):
    whole = reply(Content_Length=None)
    with serving(then_close(whole)) as server:
        assert ask(client(server.url)) == {"ok": 1}
    with serving(then_close(whole[:-1])) as server:
        assert "sent no whole JSON" in str(ask(client(server.url)))
        assert len(server.asked) == 2


# Case 1: 429 --------------------------------------------------------------------------------------------------------


def too_many(retry_after=None, **more):
    return reply(b'{"error":"slow down"}', "429 Too Many Requests", Retry_After=retry_after, **more)


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [("7", 7, 8), ("0", 0, 1), ("-30", 0, 1), ("soon", 60, 61), (None, 60, 61), ("DATE", 9, 11), ("PAST", 0, 1)],
)
def test_case_1_retry_after_is_waited_for(client, clock, retry_after, least, most):
    date = formatdate(START, usegmt=True)
    dates = {"DATE": formatdate(START + 10, usegmt=True), "PAST": formatdate(START - 999, usegmt=True)}
    refusal = too_many(dates.get(retry_after, retry_after), Date=date)
    with serving(refusal, OK) as server:
        assert ask(client(server.url)) == {"ok": 1}
    assert len(server.asked) == 2
    assert least <= sum(clock.slept) <= most + 0.25


@pytest.mark.parametrize("retry_after", ["100000000", "9" * 25, "121"])
def test_case_1_a_wait_longer_than_allowed_is_busy_at_once(client, clock, retry_after):
    with serving(too_many(retry_after)) as server:
        error = ask(client(server.url))
        assert isinstance(error, AskedToWait)
        assert isinstance(error, Busy)
        assert clock.slept == []
        again = ask(client(server.url))  # another command asks nothing before the time is over: at most an hour
        assert isinstance(again, RateLimited)
        assert len(server.asked) == 1
        clock.time += 3601
        ask(client(server.url))
        assert len(server.asked) == 2


def test_case_1_the_tries_have_an_end_and_all_processes_wait(client, clock):
    with serving(too_many("20")) as server:
        one, other = client(server.url), client(server.url, max_wait_s=5.0)
        error = ask(one)
        assert isinstance(error, AskedToWait)
        assert len(server.asked) == 3
        assert sum(clock.slept) >= 40
        assert isinstance(ask(other), RateLimited)
        assert len(server.asked) == 3


def test_case_1_an_exceeded_limit_sent_with_200_is_one(client, clock):
    exceeded = reply(b'{"status":"ERROR","error":"exceeded the maximum requests per minute"}')
    reading = lambda status, found: 429 if found and "error" in found else status  # noqa: E731
    with serving(exceeded, OK) as server:
        assert ask(client(server.url, reading=reading)) == {"ok": 1}
    assert sum(clock.slept) >= 60


def test_the_limit_is_kept_before_the_provider_has_to_ask(client, clock):
    with serving(OK) as server:
        asker = client(server.url, limits=(Limit("polygon", 5, 60),), max_wait_s=200.0)
        assert ask(asker, times=11) == [{"ok": 1}] * 11
    assert 126 < clock.time - START < 128
    assert len(clock.slept) == 2


def test_the_limit_holds_for_what_arrives_though_places_are_few(home):
    """A call that has its grant does not wait any more: it would arrive in a later window."""
    arrived = []

    def slow_at_first(connection, head):
        arrived.append(time.monotonic())
        time.sleep(0.9 if len(arrived) <= 4 else 0)
        connection.sendall(OK)

    async def main(asker):
        async with asker:
            return await gather({number: lambda: asker.get_json("/x") for number in range(10)})

    with serving(slow_at_first) as server:
        limit = Limit("polygon", 4, 1.0)
        _, failures = anyio.run(main, Client(vendor(server.url, limits=(limit,)), home, concurrency=2))
    assert failures == {}
    assert all(later - sooner > 1.0 for sooner, later in zip(arrived, arrived[4:], strict=False))


def test_a_try_is_charged_like_a_call(client, clock):
    with serving(reply(b"", "503 x"), OK) as server:
        asker = client(server.url, limits=(Limit("polygon", 1, 60),))
        assert ask(asker) == {"ok": 1}
    assert sum(clock.slept) > 60


# Case 2: 5xx --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["500 x", "502 x", "503 x", "504 x", "529 x"])
def test_case_2_a_5xx_is_tried_three_times_with_jitter(client, clock, status):
    with serving(reply(b"{}", status), reply(b"{}", status), OK) as server:
        assert ask(client(server.url)) == {"ok": 1}
    assert 0 < clock.slept[0] <= 1
    assert 0 < clock.slept[1] <= 2
    with serving(reply(b"{}", status)) as server:
        error = ask(client(server.url))
        assert len(server.asked) == 3
    assert isinstance(error, Down)
    assert (error.exit_code, error.status) == (69, int(status[:3]))


def test_case_2_the_waits_replay_by_seed(client, clock):
    with serving(reply(b"{}", "500 x")) as server:
        for seed in (1, 1, 2):
            ask(client(server.url, seed=seed))
    assert clock.slept[:2] == clock.slept[2:4] != clock.slept[4:]


def test_case_2_retry_after_of_a_503_is_honoured(client, clock):
    with serving(reply(b"", "503 x", Retry_After=30), OK) as server:
        assert ask(client(server.url)) == {"ok": 1}
    assert clock.slept[0] >= 30


def test_case_2_then_the_breaker_stops_the_calls_and_one_success_frees_them(client, clock):
    with serving(*[reply(b"{}", "500 x")] * 9, OK) as server:
        rules = Rules(threshold=3, open_s=30)
        results = ask(client(server.url, rules=rules), times=5)
        assert [type(error) for error in results] == [Down] * 3 + [BreakerOpen] * 2
        assert len(server.asked) == 9
        assert isinstance(ask(client(server.url, rules=rules)), BreakerOpen)
        clock.time += 31
        assert ask(client(server.url, rules=rules), times=2) == [{"ok": 1}] * 2


def test_case_2_a_probe_has_one_try(client, clock):
    with serving(reply(b"{}", "500 x")) as server:
        rules = Rules(threshold=1, open_s=30)
        ask(client(server.url, rules=rules))
        clock.time += 31
        assert isinstance(ask(client(server.url, rules=rules)), Down)
        assert len(server.asked) == 4


def test_case_2_one_symbol_that_fails_loses_no_other(client):
    def script(connection, head):
        bad = "/BAD" in head
        connection.sendall(reply(b"{}", "500 x") if bad else reply(json.dumps({"path": head.split()[1]}).encode()))

    async def main(asker):
        async with asker:
            names = [f"S{number}" for number in range(40)]
            names[17] = names[30] = "BAD"
            return await gather(
                {(n, name): lambda name=name: asker.get_json(f"/{name}") for n, name in enumerate(names)}
            )

    with serving(script) as server:
        results, failures = anyio.run(main, client(server.url))
    assert list(failures) == [(17, "BAD"), (30, "BAD")]
    assert all(isinstance(error, Down) for error in failures.values())
    assert len(results) == 38
    assert results[0, "S0"] == {"path": "/S0"}
    assert list(results) == sorted(results)


# Case 3: drip and silence -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slow",
    [
        drip(reply(b'{"ok": "' + b"x" * 2000 + b'"}')),
        drip(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 999),
        lambda c, h: time.sleep(1.5),
    ],
)
def test_case_3_the_deadline_holds_for_a_try_as_a_whole(client, slow):
    with serving(slow) as server:
        start = time.monotonic()
        error = ask(client(server.url, deadline_s=0.3, tries=2))
        assert 0.6 <= time.monotonic() - start < 1.4
        assert len(server.asked) == 2
    assert str(error) == "polygon gave no whole answer within 0.3 s"
    assert isinstance(error, Down)


def test_case_3_after_a_deadline_the_next_call_works(client):
    with serving(drip(OK), OK) as server:
        assert ask(client(server.url, deadline_s=0.3)) == {"ok": 1}


# Case 4, 5: cut -----------------------------------------------------------------------------------------------------

LONG = json.dumps({"bars": list(range(2000))}).encode()
CHUNKED = reply(b"", Content_Length=None, Transfer_Encoding="chunked") + b"2300\r\n" + LONG[:4000]


@pytest.mark.parametrize(
    "cut",
    [
        then_reset(reply(LONG)[:-500]),
        then_close(reply(LONG)[:-1]),
        then_reset(b""),
        then_close(b""),
        then_close(b"HTTP/1.1 200"),
        then_close(CHUNKED),
        then_close(CHUNKED + LONG[4000:8960] + b"\r\n"),  # every chunk, and no last one
        then_close(reply(gzip.compress(LONG)[:-9], Content_Encoding="gzip")),
        then_close(reply(gzip.compress(LONG)[:-1], Content_Encoding="gzip", Content_Length=None)),
        then_close(reply(LONG[:5000], Content_Length=None)),
        then_close(b"\x00\xff garbage\r\n\r\n"),
        then_close(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000),
    ],
)
def test_cases_4_and_5_a_cut_answer_is_an_error_and_is_tried_again(client, cut):
    with serving(cut, reply(LONG)) as server:
        assert ask(client(server.url)) == json.loads(LONG)
        # Two, or three: a body that is whole by its length leaves a connection to be used again, and the server may be
        # closing it just then; the try that meets it is spent.
        assert 2 <= len(server.asked) <= 3
    with serving(cut) as server:
        error = ask(client(server.url))
        assert isinstance(error, Down | Nonsense), error
        assert error.exit_code in {65, 69}
        assert 2 <= len(server.asked) <= 3


# Case 6: too much ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "huge",
    [
        reply(b"[" + b"1," * 600_000 + b"1]"),
        reply(gzip.compress(b" " * 50_000_000, 1), Content_Encoding="gzip"),
        then_close(reply(b"[" + b"1," * 600_000, Content_Length=None)),
        then_close(reply(b"", Content_Length=10**12)),
    ],
)
def test_case_6_a_body_that_is_too_large_is_not_read_and_not_asked_for_again(client, huge):
    with serving(huge) as server:
        error = ask(client(server.url, max_bytes=1_000_000))
        assert isinstance(error, Nonsense), error
        assert "a body that is not taken" in str(error)
        assert len(server.asked) == 1


# Cases 7, 8: nonsense -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(b"<html><title>Sorry</title>", kind="text/html"), "sent HTML, not JSON (<html><title>Sorry</title>)"),
        (reply(b"<!DOCTYPE html>"), "sent HTML, not JSON (<!DOCTYPE html>)"),
        (reply(b"a,b\n1,2\n", kind="text/csv"), "sent text/csv, not JSON (a,b 1,2)"),
        (reply(b""), "empty"),
        (reply(b"", "204 No Content"), "empty"),
        (reply('{"name": "Nestlé"}'.encode("latin-1")), "is not UTF-8"),
        (reply(b"ok"), "sent no whole JSON"),
    ],
)
def test_case_7_what_is_no_json_is_tried_once_more_and_told(client, answer, said):
    with serving(answer, OK) as server:
        assert ask(client(server.url)) == {"ok": 1}
    with serving(answer) as server:
        error = ask(client(server.url))
        assert isinstance(error, Nonsense)
        assert said in str(error)
        assert len(server.asked) == 2


@pytest.mark.parametrize("text", [b'{"c": NaN}', b'{"c": Infinity}', b'{"c": 1e400}', b'{"c": 1, "c": 2}'])
def test_case_8_json_that_lies_is_refused_and_not_asked_for_again(client, text):
    with serving(reply(text)) as server:
        assert "cannot be trusted" in str(ask(client(server.url)))
        assert len(server.asked) == 1


# Case 11: pages -----------------------------------------------------------------------------------------------------


def paged(client, **options):
    async def main():
        async with client:
            found = []
            try:
                async for page in client.pages("/v2/bars", {"limit": 2}, **options):
                    found.append(page.get("rows"))
            except Failure as error:
                found.append(error)
            return found

    return anyio.run(main)


def book(*pages):
    """Serves `pages` by their cursor: {"": ..., "a": ...}."""

    def script(connection, head):
        cursor = head.split(" ")[1].partition("cursor=")[2]
        rows, link = dict(pages)[cursor]
        connection.sendall(reply(json.dumps({"rows": rows, "next_url": link}).encode()))

    return script


def test_case_11_pages_follow_the_link_with_our_own_base_and_key(client):
    origin = "https://api.massive.com"
    pages = (("", ([1, 2], f"{origin}:443/v2/bars?cursor=a")), ("a", ([3], "/v2/bars?cursor=b")), ("b", ([4], None)))
    with serving(book(*pages)) as server:
        found = paged(client(server.url, origins=(origin,)), next=lambda page: page["next_url"])
    assert found == [[1, 2], [3], [4]]
    assert server.paths() == ["/v2/bars?limit=2", "/v2/bars?cursor=a", "/v2/bars?cursor=b"]
    assert all(KEY in head for head in server.asked)


def test_case_11_a_token_is_a_parameter_of_the_next_request(client):
    pages = (("", ([1], "a")), ("a", ([2], "b")), ("b", ([3], None)))
    token = lambda page: {"cursor": page["next_url"]} if page["next_url"] else None  # noqa: E731
    with serving(book(*pages)) as server:
        assert paged(client(server.url), next=token) == [[1], [2], [3]]
    assert server.paths() == ["/v2/bars?limit=2", "/v2/bars?limit=2&cursor=a", "/v2/bars?limit=2&cursor=b"]


@pytest.mark.parametrize(
    "link",
    ["http://127.0.0.1:1/x", "https://api.polygon.io@evil.example/x", "https://evil.example/x", "//evil.example", 7],
)
def test_case_11_a_link_to_somebody_else_is_an_error(client, link):
    with serving(book(("", ([1], link)))) as server:
        rows, error = paged(client(server.url), next=lambda page: page["next_url"])
        assert len(server.asked) == 1
    assert rows == [1]
    assert isinstance(error, Nonsense)
    assert "not followed" in str(error)


def test_case_11_pages_that_go_in_circles_or_never_end_are_errors(client):
    circle = (("", ([1], "/v2/bars?cursor=a")), ("a", ([2], "/v2/bars?cursor=b")), ("b", ([3], "/v2/bars?cursor=a")))
    with serving(book(*circle)) as server:
        *rows, error = paged(client(server.url), next=lambda page: page["next_url"])
        assert len(server.asked) == 3
    assert rows == [[1], [2], [3]]
    assert "goes in circles" in str(error)
    endless = iter(range(1000))
    with serving(reply(b'{"rows": []}')) as server:
        *rows, error = paged(client(server.url), next=lambda page: {"page": next(endless)}, most=10)
        assert len(server.asked) == len(rows) == 10
    assert "more than 10 pages" in str(error)


# Case 12: redirects -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 x", "302 x", "303 x", "307 x", "308 x", "304 x"])
def test_case_12_a_redirect_is_an_error_and_the_key_stays(client, status):
    with serving(OK) as thief, serving(reply(b"", status, Location=thief.url + "/x")) as server:
        error = ask(client(server.url))
        assert thief.asked == []
        assert len(server.asked) == 1
    assert "redirect" in str(error)
    assert isinstance(error, Nonsense)


# Case 13: the clock -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [-3600, 0, 9])
def test_case_13_a_clock_that_differs_is_reported_once(client, ahead):
    heard = []
    with serving(reply(Date=formatdate(START + ahead, usegmt=True))) as server:
        asker = client(server.url, heard=heard)
        ask(asker, times=3)
    assert asker.skew_s == pytest.approx(ahead, abs=1)
    said = f"the clock here and that of polygon differ by {abs(ahead + 0.5):.0f} s; set the system's clock"
    assert heard == ([said] if ahead else [])


@pytest.mark.parametrize(
    "more", [{"Date": "yesterday"}, {"Date": None}, {"Date": "Thu, 01 Jan 1970 00:00:00 GMT", "Age": 5}]
)
def test_case_13_a_date_that_says_nothing_is_ignored(client, more):
    heard = []
    with serving(reply(**more)) as server:
        asker = client(server.url, heard=heard)
        assert ask(asker) == {"ok": 1}
    assert asker.skew_s is None
    assert heard == []


# Case 16: nobody there ----------------------------------------------------------------------------------------------


def test_case_16_no_network_is_unavailable_before_the_deadline(client, clock):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    start = time.monotonic()
    error = ask(client(url))
    assert time.monotonic() - start < 4
    assert isinstance(error, Down)
    assert error.exit_code == 69
    assert "polygon cannot be reached at 127.0.0.1" in str(error)
    assert len(clock.slept) == 2


def test_case_16_a_name_that_nobody_knows_is_unavailable(client, monkeypatch):
    def unknown(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("NO_PROXY", "*")
    error = ask(client("https://api.polygon.example"))
    assert isinstance(error, Down)
    assert "cannot be reached at api.polygon.example" in str(error)


def test_a_provider_with_a_certificate_that_nobody_signed_is_not_asked_twice(client):
    met: list[int] = []
    with self_signed(met) as url:
        error = ask(client(url))
    assert isinstance(error, Down)
    assert "cannot prove that it is 127.0.0.1" in str(error)
    assert len(met) == 1


@contextmanager
def self_signed(met):
    """A TLS server with a certificate of an authority that nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):  # the listener is closed when the test is over
            while True:
                connection, _ = listener.accept()
                met.append(1)
                with suppress(OSError), context.wrap_socket(connection, server_side=True):
                    pass  # the client has refused the certificate

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


# Refusals are final -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 x", Rejected),
        ("401 x", BadKey),
        ("403 x", NotEntitled),
        ("404 x", NotFound),
        ("422 x", Rejected),
        ("501 x", Down),
    ],
)
def test_what_will_not_change_is_not_asked_again(client, status, kind):
    with serving(reply(b'{"message": "no"}', status)) as server:
        error = ask(client(server.url, rules=Rules(threshold=2)))
        assert type(error) is kind
        assert error.status == int(status[:3])
        assert len(server.asked) == 1
    assert isinstance(error, NoData) == (kind is NotFound)


def test_refusals_do_not_open_the_breaker(client):
    with serving(reply(b"{}", "404 x")) as server:
        results = ask(client(server.url, rules=Rules(threshold=2)), times=5)
    assert [type(error) for error in results] == [NotFound] * 5


def test_the_status_counts_even_if_the_body_is_cut(client):
    with serving(then_close(reply(b'{"message": "no"}', "401 x")[:-3])) as server:
        assert isinstance(ask(client(server.url)), BadKey)


# Many at once -------------------------------------------------------------------------------------------------------


def test_no_more_than_the_allowed_number_is_in_flight(client):
    def slow(connection, head):
        time.sleep(0.02)
        connection.sendall(OK)

    async def main(asker):
        async with asker:
            return await gather({number: lambda: asker.get_json("/x") for number in range(60)})

    with serving(slow) as server:
        results, failures = anyio.run(main, client(server.url, concurrency=8))
        assert server.most_in_flight == 8
    assert len(results) == 60
    assert failures == {}


def test_a_mistake_of_ours_is_not_gathered():
    async def broken():
        raise KeyError("ours")

    with pytest.raises(ExceptionGroup) as stopped:
        anyio.run(gather, {"a": broken})
    assert stopped.group_contains(KeyError)


def test_a_cancelled_call_leaves_the_client_in_order(client, home):
    """And its lease: a probe that was given up is free for the next."""

    async def main(asker):
        async with asker:
            with anyio.move_on_after(0.2):
                await gather({number: lambda: asker.get_json("/slow") for number in range(20)})
            return await gather({number: lambda: asker.get_json("/x") for number in range(20)})

    def script(connection, head):
        if "/slow" in head:
            time.sleep(0.6)
        connection.sendall(OK)

    with serving(script) as server:
        results, failures = anyio.run(main, client(server.url, concurrency=10))
    assert failures == {}
    assert len(results) == 20


def test_a_cancelled_probe_hands_its_lease_on(client, clock):
    rules = Rules(threshold=1, open_s=30)
    with serving(reply(b"{}", "501 x"), lambda c, h: time.sleep(0.5), OK) as server:
        ask(client(server.url, rules=rules))
        clock.time += 31

        async def main(asker):
            async with asker:
                with anyio.move_on_after(0.2):
                    await asker.get_json("/x")

        anyio.run(main, client(server.url, rules=rules))
        assert ask(client(server.url, rules=rules)) == {"ok": 1}


# Case 31: the key ---------------------------------------------------------------------------------------------------

ECHO = json.dumps({"message": f"bad key {KEY}", "next_url": f"https://evil.example/?apiKey={KEY}"}).encode()
FAILING = {
    "echo 401": reply(ECHO, "401 x"),
    "echo 403": reply(ECHO, "403 x"),
    "echo 400": reply(ECHO, "400 x"),
    "echo 429": reply(ECHO, "429 x", Retry_After=999),
    "echo 500": reply(ECHO, "500 x"),
    "echo html": reply(b"<p>" + KEY.encode(), kind="text/html"),
    "echo type": reply(kind=f"text/{KEY}"),
    "echo not json": reply(KEY.encode()),
    "echo twice": reply(f'{{"{KEY}": 1, "{KEY}": 2}}'.encode()),
    "echo coding": reply(Content_Encoding=KEY),
    "redirect": reply(b"", "302 x", Location=f"https://evil.example/?k={KEY}"),
    "reset": then_reset(b""),
    "garbage": then_close(f"HTTP/9.9 {KEY}\r\n{KEY}\r\n\r\n".encode()),
    "bad header": then_close(f"HTTP/1.1 200 OK\r\n{KEY}\x00: {KEY}\r\n\r\n".encode()),
    "cut": then_close(reply(LONG)[:-9]),
    "silence": lambda connection, head: time.sleep(0.4),
    "fine, but a page elsewhere": reply(ECHO),
}


@pytest.mark.parametrize("how", FAILING)
def test_case_31_the_key_is_in_no_error_log_or_traceback(client, how, capfd):
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        with serving(FAILING[how]) as server:
            asker = client(server.url, deadline_s=0.2, tries=2)
            error = paged(asker, next=lambda page: page["next_url"])[-1] if "fine" in how else ask(asker)
            assert isinstance(error, Failure)
            assert any(KEY in head for head in server.asked)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    everything = [log.getvalue(), repr(asker), repr(asker.vendor), repr(error), str(error), *capfd.readouterr()]
    while error is not None:
        everything += traceback.TracebackException.from_exception(error, capture_locals=True).format()
        everything.append(repr(vars(error)))
        error = error.__cause__ or error.__context__
    assert KEY not in "\n".join(everything)


def test_case_31_the_filter_of_the_logs_goes_with_the_client(client):
    with serving(OK) as server:
        ask(client(server.url))
    assert [logging.getLogger(name).filters for name in ("aiohttp.client", "asyncio")] == [[], []]
