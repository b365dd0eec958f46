"""Faults on purpose: each does on the wire what its name says, and the same ones befall the same requests again."""

import asyncio
import contextlib
import gzip
import json
import socket
import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import urllib3
import websockets
from sandboxes import Running, sandbox
from websockets.exceptions import ConnectionClosed

from marketagent.errors import BadConfig, UsageError
from marketagent.sandbox import faults
from marketagent.sandbox.faults import HTTP, PRESETS, SOCKET, Faults, Rule
from marketagent.sandbox.wire import _Spoiled

PATH = "/v2/aggs/ticker/AAPL/range/1/day/2026-01-02/2026-11-20"


def raw(one: Running, path: str = PATH, accept: str = "") -> tuple[bytes, str]:
    """Every byte that comes for a GET, and how the connection ended: FIN or RST."""
    with socket.create_connection(("127.0.0.1", one.port), timeout=10) as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer sandbox-advanced\r\n"
        connection.sendall(f"{head}{accept}\r\n".encode())
        data = b""
        try:
            while more := connection.recv(65536):
                data += more
        except ConnectionResetError:
            return data, "RST"
        return data, "FIN"


def get(one: Running, path: str = PATH) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", one.url + path, headers=one.bearer, retries=False, redirect=False)


def split(data: bytes) -> tuple[dict[str, str], bytes]:
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


def test_every_kind_of_fault_is_played():
    for kind in HTTP:
        assert kind == "latency" or hasattr(_Spoiled, f"_{kind.replace('-', '_')}")
    assert not set(HTTP) & set(SOCKET)


# On the wire


@pytest.mark.parametrize(
    ("retry_after", "header"), [(None, None), ("2", "2"), ("soon", "soon"), ("-5", "-5"), ("100000000", "100000000")]
)
def test_a_429_comes_with_and_without_a_time_to_wait(retry_after, header):
    with sandbox(faults=(Rule(kind="status", status=429, retry_after=retry_after),)) as one:
        answer = get(one)
        assert (answer.status, answer.headers.get("retry-after")) == (429, header)
        assert answer.json()["error"].startswith("You've exceeded the maximum requests per minute")
        other = get(one, "/v2/account")
        assert (other.status, other.json()) == (429, {"code": 42910000, "message": "rate limit exceeded."})


def test_a_time_to_wait_can_be_a_date():
    with sandbox(faults=(Rule(kind="status", status=503, retry_after="date"),)) as one:
        headers = get(one).headers
        ahead = parsedate_to_datetime(headers["retry-after"]) - parsedate_to_datetime(headers["date"])
        assert 1 <= ahead.total_seconds() <= 3


def test_a_refusal_can_come_with_200():
    with sandbox(faults=(Rule(kind="error-200"),)) as one:
        answer = get(one)
        assert (answer.status, answer.json()["status"]) == (200, "ERROR")


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_can_be_sick(status):
    with sandbox(faults=(Rule(kind="status", status=status, first=1),)) as one:
        assert get(one).status == status
        assert get(one).status == 200


def test_a_reset_before_does_nothing_and_one_after_has_done_it():
    with sandbox(faults=(Rule(kind="reset-before"),)) as one:
        assert raw(one) == (b"", "RST")
        assert [asked.status for asked in one.world.log.since()] == [0]
    with sandbox(faults=(Rule(kind="reset-after"),)) as one:
        assert raw(one) == (b"", "RST")
        assert [asked.status for asked in one.world.log.since()] == [200]


def test_a_body_can_be_cut_behind_its_announced_length():
    with sandbox() as whole, sandbox(faults=(Rule(kind="cut"),)) as one:
        data, end = raw(one)
        headers, body = split(data)
        _, full = split(raw(whole)[0])
        assert end == "FIN"
        assert int(headers["content-length"]) > len(body)
        assert full.replace(whole.url.encode(), b"").startswith(body.replace(one.url.encode(), b"")[:500])


def test_chunks_can_end_without_the_last_one():
    with sandbox(faults=(Rule(kind="cut-chunked"),)) as one:
        data, _ = raw(one)
        headers, body = split(data)
        assert headers["transfer-encoding"] == "chunked"
        assert int(body.partition(b"\r\n")[0], 16) == len(body.partition(b"\r\n")[2]) - 2
        with pytest.raises(urllib3.exceptions.ProtocolError):
            get(one)


def test_gzip_can_lack_its_end_though_the_length_is_right():
    with sandbox(faults=(Rule(kind="cut-gzip"),)) as one:
        headers, body = split(raw(one)[0])
        assert headers["content-encoding"] == "gzip"
        assert int(headers["content-length"]) == len(body)
        with pytest.raises(EOFError):
            gzip.decompress(body)


def test_an_answer_can_be_html_or_nothing():
    with sandbox(faults=(Rule(kind="html"),)) as one:
        answer = get(one)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert answer.data.startswith(b"<!DOCTYPE html>")
    with sandbox(faults=(Rule(kind="empty"),)) as one:
        assert (get(one).status, get(one).data) == (200, b"")


def test_a_body_can_drip():
    with sandbox(faults=(Rule(kind="drip", seconds=0.5),)) as one:
        begin = time.monotonic()
        assert get(one).json()["resultsCount"] > 0
        assert time.monotonic() - begin > 0.45


def test_an_answer_can_be_late():
    with sandbox(faults=(Rule(kind="latency", seconds=0.4),)) as one:
        begin = time.monotonic()
        assert get(one).status == 200
        assert 0.2 <= time.monotonic() - begin < 2


def test_rows_can_come_twice_and_out_of_order_but_none_is_lost():
    def times(*rules: Rule) -> list[int]:
        with sandbox(faults=rules) as one:
            return [bar["t"] for bar in get(one).json()["results"]]

    usual = times()
    doubled, mixed = times(Rule(kind="duplicate")), times(Rule(kind="reorder"))
    assert len(doubled) > len(usual)
    assert sorted(set(doubled)) == usual
    assert mixed != usual
    assert sorted(mixed) == usual


def test_a_page_can_name_itself_as_the_next():
    with sandbox(faults=(Rule(kind="loop"),)) as one:
        assert get(one, f"{PATH}?limit=5").json()["next_url"] == f"{one.url}{PATH}?limit=5"


def test_what_a_client_gets_in_gzip_is_the_same():
    with sandbox() as one:
        headers, packed = split(raw(one, accept="Accept-Encoding: gzip\r\n")[0])
        assert headers["content-encoding"] == "gzip"
        plain = json.loads(split(raw(one)[0])[1])
        assert json.loads(gzip.decompress(packed))["results"] == plain["results"]


# On sockets


def frames(one: Running, count: int, seconds: float = 10.0) -> list[str]:
    """Up to `count` frames behind the greeting of a stream of three symbols; fewer when it falls silent or breaks."""

    async def run() -> list[str]:
        found: list[str] = []
        async with websockets.connect(f"{one.stream}/stocks") as stream:
            await stream.send('{"action":"auth","params":"sandbox-advanced"}')
            await stream.send('{"action":"subscribe","params":"AM.*,T.AAPL"}')
            with contextlib.suppress(TimeoutError, ConnectionClosed):
                while len(found) < count:
                    found.append(str(await asyncio.wait_for(stream.recv(), seconds)))
            if len(found) < count:
                with contextlib.suppress(ConnectionClosed):
                    await asyncio.wait_for(await stream.ping(), 5)
                    found.append("alive")
        return found

    return asyncio.run(run())


def test_a_socket_can_fall_silent_and_stay():
    with sandbox(speed=600, faults=(Rule(kind="mute", frames=6),)) as one:
        assert frames(one, 20, seconds=0.7)[6:] == ["alive"]


def test_a_socket_can_break():
    with sandbox(speed=600, faults=(Rule(kind="drop", frames=6),)) as one:
        assert len(frames(one, 20)) == 6


def test_frames_can_come_twice_swapped_and_torn():
    with sandbox(speed=600, faults=(Rule(kind="duplicate-frames"),)) as one:
        found = frames(one, 12)
        assert any(found[k] == found[k + 1] for k in range(3, 11))
    with sandbox(speed=600, faults=(Rule(kind="reorder-frames"),)) as one:
        found = [max(each.get("t", each.get("s", 0)) for each in json.loads(frame)) for frame in frames(one, 14)[3:]]
        assert found != sorted(found)
    with sandbox(speed=600, faults=(Rule(kind="garbage-frames"),)) as one:
        assert '[{"ev":"AM","sym' in frames(one, 12)


# Replaying


def test_the_same_seed_spoils_the_same_requests_whatever_is_asked_meanwhile():
    rules = PRESETS["cruel"]
    paths = [f"/v2/aggs/ticker/S{n}/prev" for n in range(60)]

    def kinds(faulty: Faults, order: list[str]) -> dict[str, list[list[str]]]:
        found: dict[str, list[list[str]]] = {}
        for path in order:
            found.setdefault(path, []).append([rule.kind for rule in faulty.met("GET", path)])
        return found

    one = kinds(Faults(rules, 1), paths * 3)
    assert one == kinds(Faults(rules, 1), sorted(paths * 3))
    assert one != kinds(Faults(rules, 2), paths * 3)
    assert any(len(set(map(str, each))) > 1 for each in one.values())  # the same request fares better the next time


def test_a_chance_is_met_about_so_often():
    faulty = Faults((Rule(kind="html", chance=0.25),), 3)
    assert 180 < sum(bool(faulty.met("GET", f"/{n}")) for n in range(1000)) < 320


def test_a_sandbox_with_faults_answers_the_same_twice():
    def said() -> list[Any]:
        quick = tuple(rule for rule in PRESETS["cruel"] if rule.kind not in ("latency", "drip"))
        with sandbox(faults=quick) as one:
            for n in range(30):
                with contextlib.suppress(urllib3.exceptions.HTTPError):
                    get(one, f"/v2/aggs/ticker/AAPL/range/1/day/2026-11-02/2026-11-{20 - n % 10:02}")
            return [(asked.path, asked.status, asked.fault) for asked in one.world.log.since()]

    first = said()
    assert first == said()
    assert len({fault for _, _, fault in first}) > 5


def test_the_sandbox_s_own_pages_are_never_spoiled():
    with sandbox(faults=(Rule(kind="reset-before"),)) as one:
        clock = get(one, "/_sandbox/clock").json()
        assert (clock["now"][:16], clock["is_open"]) == ("2026-11-24T15:00", True)


def test_the_log_tells_what_was_asked_without_the_key():
    with sandbox(faults=(Rule(kind="html", path="/v3"),)) as one:
        get(one, f"{PATH}?apiKey=sandbox-advanced&limit=3")
        get(one, "/v3/reference/splits")
        frames(one, 3)
        text = get(one, "/_sandbox/log").data.decode()
        lines = [json.loads(line) for line in text.splitlines()]
        assert "sandbox-advanced" not in text
        assert [(line["method"], line["status"], line["fault"]) for line in lines[:2]] == [
            ("GET", 200, ""),
            ("GET", 200, "html"),
        ]
        assert lines[0]["query"] == "apiKey=***&limit=3"
        assert [line["message"] for line in lines if line["method"] == "WS"] == [
            "",
            '{"action": "auth"}',
            '{"action": "subscribe", "params": "AM.*,T.AAPL"}',
        ]
        assert get(one, "/_sandbox/log?after=4").data.count(b"\n") == len(lines) - 4


# Rules from a file


def test_a_file_of_rules_is_read(tmp_path):
    file = tmp_path / "faults.toml"
    file.write_text('seed = 9\n[[fault]]\nkind = "status"\nstatus = 429\nretry_after = "2"\nchance = 0.5\nfirst = 2\n')
    found = faults.load(str(file), 1)
    assert found.seed == 9
    assert found.rules == (Rule(kind="status", status=429, retry_after="2", chance=0.5, first=2),)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_names(name):
    assert faults.load(name, 4).rules == PRESETS[name]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[fault]]\nkind = "statsu"', "did you mean status?"),
        ('[[fault]]\nkind = "status"\nchanse = 1', "did you mean chance?"),
        ('[[fault]]\nkind = "status"\nchance = 2', "chance is 2"),
        ('[[fault]]\nkind = "status"\nchance = "often"', "must be a number"),
        ('[[fault]]\nkind = "status"\nretry_after = 2', "must be text"),
        ('[[fault]]\nkind = "status"\nfirst = -1', "at least 0"),
        ('[[fault]]\nkind = "status"\nstatus = 99', "status is 99"),
        ('fault = "status"', "must be tables"),
        ("sede = 1\n", "did you mean seed?"),
        ("seed = true\n", "whole number"),
        ("[[fault]\n", "faults.toml"),
    ],
)
def test_a_wrong_rule_is_named(tmp_path, text, words):
    file = tmp_path / "faults.toml"
    file.write_text(text)
    with pytest.raises(BadConfig) as error:
        faults.load(str(file), 1)
    assert words in str(error.value)


def test_an_unknown_preset_is_told_from_a_file():
    with pytest.raises(UsageError, match="did you mean flaky"):
        faults.load("flakey", 1)
