"""The parts of the web client that need no network: JSON, bodies, links, vendors, meanings."""

import gzip
import json
import subprocess
import sys
import zlib

import anyio
import pytest
from streams import ROOT, environment

from marketagent.config import Secret
from marketagent.errors import BadConfig
from marketagent.limits import Limit
from marketagent.web import body
from marketagent.web.failures import AskedToWait, BadKey, Down, Nonsense, NotEntitled, NotFound, Rejected
from marketagent.web.meaning import Answer, content, retry_after
from marketagent.web.paging import following, target
from marketagent.web.strict import NotJson, NotStrict, parsed
from marketagent.web.vendor import Vendor

KEY = "k3y-CANARY-0123"
POLYGON = Vendor(
    name="polygon",
    base_url="https://api.polygon.io",
    headers={"Authorization": Secret(f"Bearer {KEY}")},
    limits=(Limit("polygon", 5, 60),),
    origins=("https://api.massive.com",),
)


# JSON ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ['{"a": [1, -2.5, 7.09e7, 1e308, null, true, "\\u00e9\\ud83d\\ude00 \\\\ud800"]}', "[]", " {} \n"]
)
def test_json_is_read_as_python_reads_it(text):
    assert parsed(text.encode()) == json.loads(text)
    assert parsed(b"\xef\xbb\xbf" + text.encode()) == json.loads(text)  # a byte order mark is skipped


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": NaN}', "NaN is not a number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a number"),
        (b'{"a": 1e400}', "1e400 is too large"),
        (b'{"a": -1e309}', "is too large"),
        (b'{"a": 1E+400}', "is too large"),
        (b'{"a": ' + b"9" * 309 + b".5}", "is too large"),
        (b'{"a": 1' + b"0" * 250 + b"e99}", "is too large"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "is too large"),
        (b'{"c": 1, "o": 2, "c": 3}', "'c' stands twice"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' stands twice"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b"[" * 200_000, "nested too deeply"),
    ],
)
def test_json_that_lies_is_refused(text, said):
    with pytest.raises(NotStrict, match=said):
        parsed(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b'{"a": 1',
        b'{"a": 1}}',
        b'{"a": 1} {"b": 2}',
        b"{'a': 1}",
        b"[1,]",
        b'{"a": 01}',
        b'{"a": "\n"}',
        b"12",
        b'"text"',
        b"null",
        '{"a": "é"}'.encode("latin-1"),
        '{"a": 1}'.encode("utf-16"),
        b"<html>",
    ],
)
def test_what_is_no_whole_json_is_refused(text):
    with pytest.raises(NotJson):
        parsed(text)


@pytest.mark.parametrize(
    "number", ["1" + "0" * 308 + ".5", "0." + "0" * 400 + "1", "1e-400", "1e308", "9" * 199 + "e99"]
)
def test_a_long_number_that_a_float_holds_is_taken(number):
    assert parsed(f"[{number}]".encode()) == [float(number)]


def test_every_cut_of_a_body_is_noticed():
    whole = b'{"results": [{"c": 12.5}, {"c": 1e2}], "next": null}'
    assert parsed(whole)
    for end in range(len(whole)):
        with pytest.raises(NotJson):
            parsed(whole[:end])


# Bodies -------------------------------------------------------------------------------------------------------------

TEXT = json.dumps({"bars": [{"c": number} for number in range(3000)]}).encode()
RAW = zlib.compressobj(wbits=-15)
PACKED = {
    "gzip": gzip.compress(TEXT),
    "gzip of two members": gzip.compress(TEXT[:999]) + gzip.compress(TEXT[999:]),
    "deflate": zlib.compress(TEXT),
    "deflate, bare": RAW.compress(TEXT) + RAW.flush(),
    "": TEXT,
}


def read(data, headers, most=1_000_000, size=1000):
    async def chunks():
        for start in range(0, len(data), size):
            yield data[start : start + size]

    return anyio.run(body.read, chunks(), headers, most)


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_packed_body_is_read_to_its_end(how, size):
    headers = {"content-encoding": how.split(" ")[0].strip(","), "content-length": str(len(PACKED[how]))}
    assert read(PACKED[how], headers, size=size) == TEXT


@pytest.mark.parametrize("how", ["gzip", "deflate", "deflate, bare"])
def test_every_cut_of_a_packed_body_is_noticed(how):
    data = PACKED[how]
    for end in [*range(1, 30), *range(30, len(data), 97), *range(len(data) - 12, len(data))]:
        with pytest.raises(body.Cut):
            read(data[:end], {"content-encoding": how.split(",")[0]})


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_a_damaged_packed_body_is_noticed(how):
    for place in (len(PACKED[how]) // 2, len(PACKED[how]) - 5):
        data = bytearray(PACKED[how])
        data[place] ^= 0x55
        with pytest.raises(body.Cut):
            read(bytes(data), {"content-encoding": how})
    with pytest.raises(body.Cut):
        read(PACKED[how] + b"more", {"content-encoding": how})


def test_a_bomb_does_not_go_off():
    bomb = gzip.compress(bytes(20_000_000), 1)
    with pytest.raises(body.Unreadable, match="unpacks to more"):
        read(bomb, {"content-encoding": "gzip"}, most=1_000_000, size=65536)
    assert read(gzip.compress(bytes(1000)), {"content-encoding": "gzip"}, most=1000) == bytes(1000)
    with pytest.raises(body.Unreadable):
        read(gzip.compress(bytes(1001)), {"content-encoding": "gzip"}, most=1000)


def test_sizes_are_checked_before_and_while_reading():
    with pytest.raises(body.Unreadable, match="2000 bytes, more than"):
        read(b"", {"content-length": "2000"}, most=1000)
    with pytest.raises(body.Unreadable, match="more than the 1000"):
        read(b"x" * 1001, {}, most=1000)
    with pytest.raises(body.Cut, match="cut after 5 of 6 bytes"):
        read(b"12345", {"content-length": "6"})
    with pytest.raises(body.Unreadable, match="packed as 'br'"):
        read(b"x", {"content-encoding": "br"})


# Vendors and links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://api.polygon.io",
        "https://paper-api.alpaca.markets@evil.example",
        "https://user:pass@api.polygon.io",
        "ftp://api.polygon.io",
        "api.polygon.io",
        "https://",
        "https://api.polygon.io?x=1",
        "https://api.polygon.io#x",
        "https://api.polygon.io:99999",
        "https://api.polygon.io\\@evil.example",
        "https://api. polygon.io",
        "http://127.0.0.1.evil.example",
        "http://10.0.0.1",
        "",
    ],
)
def test_a_base_url_that_could_lose_the_key_is_refused(url):
    with pytest.raises(BadConfig, match="the base URL of x"):
        Vendor(name="x", base_url=url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8777", "http://localhost:1/p/", "http://[::1]:8777", "https://h:8443/p"]
)
def test_a_base_url_on_this_machine_or_encrypted_is_taken(url):
    assert Vendor(name="x", base_url=url).origin[2] in {8777, 1, 8443}


@pytest.mark.parametrize("key", ["", " s3cret", "s3cret\n", "s3cret\r\nHost: evil", "schlüssel", "s3cret\x00"])
def test_a_key_that_is_none_is_refused_without_being_shown(key):
    with pytest.raises(BadConfig, match=r"the key of x .* has signs that no key has") as refused:
        Vendor(name="x", base_url="https://h", headers={"k": Secret(key)})
    assert not key.strip() or key.strip() not in str(refused.value)


def test_a_vendor_does_not_show_its_key():
    assert KEY not in repr(POLYGON)
    assert POLYGON.safe(f"\x1b[2J you sent {KEY}\n as Bearer {KEY}") == "[2J you sent *** as ***"


def test_paths_and_parameters_are_put_together():
    assert target(POLYGON, "/v2/aggs/ticker/BRK.B") == "/v2/aggs/ticker/BRK.B"
    params = {"symbols": "A,B", "adjusted": False, "limit": 5, "none": None, "q": "a&b=c d"}
    assert target(POLYGON, "/x", params) == "/x?symbols=A,B&adjusted=false&limit=5&q=a%26b%3Dc%20d"
    assert target(Vendor(name="x", base_url="https://h/v1/"), "/x") == "/v1/x"


@pytest.mark.parametrize(
    "path", ["x", "", "//evil.example/x", "/a?b", "/a#b", "/a/../b", "/./a", "/a b", "/a\n", "/é", "/\\x"]
)
def test_what_is_no_path_is_the_callers_mistake(path):
    with pytest.raises(ValueError, match="a path"):
        target(POLYGON, path)


def test_a_key_never_gets_into_a_url():
    for path, params in (("/x", {"apiKey": KEY}), (f"/{KEY}", {}), ("/x", {"a": f"Bearer {KEY}"})):
        with pytest.raises(ValueError, match="belongs in a header") as refused:
            target(POLYGON, path, params)
        assert KEY not in str(refused.value)
    assert following(POLYGON, f"https://api.polygon.io/x?cursor=a&apiKey={KEY}&b=") == "/x?cursor=a&b="


@pytest.mark.parametrize(
    ("link", "place"),
    [
        ("https://api.polygon.io/v2/x?cursor=YWJj%3D", "/v2/x?cursor=YWJj%3D"),
        ("https://api.polygon.io:443/v2/x?cursor=a#frag", "/v2/x?cursor=a"),
        ("https://API.Polygon.IO/x", "/x"),
        ("https://api.massive.com:443/v2/x?cursor=a", "/v2/x?cursor=a"),
        ("/v2/x?cursor=a", "/v2/x?cursor=a"),
    ],
)
def test_of_a_link_only_path_and_query_are_taken(link, place):
    assert following(POLYGON, link) == place


@pytest.mark.parametrize(
    "link",
    [
        "http://api.polygon.io/x",
        "https://api.polygon.io:8443/x",
        "https://evil.example/x",
        "https://api.polygon.io@evil.example/x",
        "https://api.polygon.io:443@evil.example/x",
        "https://user@api.polygon.io/x",
        "https://api.polygon.io.evil.example/x",
        "https://api.polygon.io\\@evil.example/x",
        "//evil.example/x",
        "https:///x",
        "https://api.polygon.io",
        "https://api.polygon.io/../x",
        "https://api.polygon.io:x/",
        "file:///etc/passwd",
        "cursor=a",
        "https://api.polygon.io/x\r\nHost: evil",
        "https://[::1/x",
        "//[::1/x",
        "?",
        5,
        ["https://api.polygon.io/x"],
    ],
)
def test_a_link_to_somebody_else_is_not_followed(link):
    with pytest.raises(Nonsense, match="not followed"):
        following(POLYGON, link)


# Meanings -----------------------------------------------------------------------------------------------------------


def meaning(status, text="", vendor=POLYGON, **headers):
    return content(vendor, Answer(status, {"content-type": "application/json"} | headers, text.encode()), 0.0)


@pytest.mark.parametrize(
    ("status", "text", "kind", "code", "said"),
    [  # the error tables of the vendors, then what anybody may send
        (
            401,
            '{"status":"ERROR","error":"Unknown API Key"}',
            BadKey,
            77,
            "does not know the key (401: Unknown API Key)",
        ),
        (
            403,
            '{"status":"NOT_AUTHORIZED","message":"You are not entitled to this data"}',
            NotEntitled,
            77,
            "not entitled",
        ),
        (404, '{"status":"NOT_FOUND","message":"no such ticker"}', NotFound, 66, "(404: no such ticker)"),
        (404, "404 page not found", NotFound, 66, "(404: 404 page not found)"),
        (429, '{"status":"ERROR","error":"exceeded"}', AskedToWait, 75, "asks to wait 60 s (429: exceeded)"),
        (400, '{"status":"ERROR","error":"bad from"}', Rejected, 4, "refuses the request (400: bad from)"),
        (401, '{"code":40110000,"message":"request is not authorized"}', BadKey, 77, "request is not authorized"),
        (403, '{"code":42210000,"message":"subscription does not permit"}', NotEntitled, 77, "does not permit"),
        (422, '{"code":40010001,"message":"qty must be > 0"}', Rejected, 4, "(422: qty must be > 0)"),
        (429, '{"code":42910000,"message":"rate limit exceeded."}', AskedToWait, 75, "rate limit exceeded."),
        (529, '{"error":{"type":"overloaded_error","message":"Overloaded"}}', Down, 69, "(529: Overloaded)"),
        (402, '{"error":{"message":"no credit"}}', NotEntitled, 77, "(402: no credit)"),
        (503, "<html><h1>Down</h1>", Down, 69, "out of order (503: <html><h1>Down</h1>)"),
        (500, "", Down, 69, "is out of order (500)"),
        (408, "", Down, 69, "408"),
        (302, "", Nonsense, 65, "redirect (302, https://evil.example/); not followed"),
        (200, "", Nonsense, 65, "empty or partial answer (200)"),
        (204, "", Nonsense, 65, "empty or partial answer (204)"),
        (206, '{"a":1}', Nonsense, 65, "empty or partial answer (206)"),
        (200, " <!doctype html><p>Hi", Nonsense, 65, "sent HTML, not JSON (<!doctype html><p>Hi)"),
        (200, '{"a": ', Nonsense, 65, "sent no whole JSON"),
        (200, '{"a": NaN}', Nonsense, 65, "NaN is not a number"),
    ],
)
def test_each_answer_means_one_thing(status, text, kind, code, said):
    with pytest.raises(kind) as failed:
        meaning(status, text, location="https://evil.example/")
    assert said in str(failed.value)
    assert failed.value.exit_code == code


@pytest.mark.parametrize(
    "kind", ["", "application/json", "application/json; charset=utf-8", "text/plain", "application/problem+json"]
)
def test_a_content_type_that_can_be_json_is_taken(kind):
    assert meaning(200, '{"a": 1}', **{"content-type": kind}) == {"a": 1}


@pytest.mark.parametrize(
    "kind", ["text/html", "text/csv", "application/msgpack", "image/png", "application/jsonp", "x"]
)
def test_any_other_content_type_is_refused(kind):
    with pytest.raises(Nonsense, match="not JSON"):
        meaning(200, '{"a": 1}', **{"content-type": kind})


def test_a_vendor_may_read_a_status_from_the_body():
    """Polygon sends an exceeded limit with 200, and 200 is nothing to go by."""
    reading = lambda status, found: 429 if found and found.get("status") == "ERROR" else status  # noqa: E731
    vendor = Vendor(name="polygon", base_url="https://h", reading=reading, pause_s=12)
    assert meaning(200, '{"status":"OK"}', vendor) == {"status": "OK"}
    with pytest.raises(AskedToWait, match="exceeded") as failed:
        meaning(200, '{"status":"ERROR","error":"exceeded"}', vendor)
    assert failed.value.wait_s == 12
    with pytest.raises(BadKey):
        meaning(401, "no json", vendor)


def test_what_a_vendor_says_cannot_drive_a_terminal_or_show_the_key():
    with pytest.raises(Rejected) as failed:
        meaning(400, json.dumps({"message": f"\x1b]0;x\x07bad key {KEY} \u202e" + "x" * 500}))
    text = str(failed.value)
    assert KEY not in text
    assert text.isprintable()
    assert len(text) < 300


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7), ("7.5", 7.5), ("0", 0), ("-3", 0), ("100000000", 1e8), ("9" * 30, 1e30),
        ("Fri, 20 Nov 2026 21:05:30 GMT", 30), ("Fri, 20 Nov 2026 21:04:00 GMT", 0),
        ("soon", None), ("", None), ("7 s", None), ("1e9", None), ("nan", None), ("٣", None), ("9" * 400, None),
        ("Fri, 99 Nov 2026 21:05:30 GMT", None), ("Fri, 20 Nov 99999 21:05:30 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_a_number_a_date_or_nothing(text, seconds):
    headers = {"retry-after": text, "date": "Fri, 20 Nov 2026 21:05:00 GMT"}
    assert retry_after(headers, 0.0) == (seconds if seconds is None else pytest.approx(seconds))


# Imports ------------------------------------------------------------------------------------------------------------


def test_a_vendor_and_an_unused_cache_cost_no_import():
    code = (
        "import sys, marketagent.limits, marketagent.breaker, marketagent.cache, marketagent.web.vendor;"
        "print([name for name in ('aiohttp', 'anyio', 'tenacity', 'diskcache', 'ssl', 'duckdb') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(ROOT), cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
