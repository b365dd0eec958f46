"""Pages of bars read by their shape say what the strict reader says, and refuse what it refuses."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marketagent import barpages
from marketagent.delivery import FIELDS, rfc3339, rows, unix_ms
from marketagent.web.strict import NotJson, NotStrict, parsed

BAR = {"t": 1673240400000, "o": 130.465, "h": 133.41, "l": 129.89, "c": 130.15, "v": 7.09e7, "vw": 131.6, "n": 5}
NAMES = "tohlcv"


def page(*bars, **more):
    return json.dumps({"status": "OK", "results": list(bars), **more}).encode()


def same(one, other):
    assert np.array_equal(one.start, other.start)
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in FIELDS)
    assert one.refused == other.refused


numbers = st.floats(0.0001, 1e9) | st.integers(1, 10**12)
odd = st.none() | st.text(max_size=3) | st.booleans() | st.just(float("1e300")) | st.lists(st.integers(), max_size=1)
bars = st.lists(
    st.fixed_dictionaries(
        {"t": st.integers(0, 2**41) | odd, **dict.fromkeys("ohlcv", numbers | odd)},
        optional={"vw": numbers, "n": st.integers(1, 9), "otc": st.booleans(), "extra": odd},
    ),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(bars, st.booleans())
def test_both_readers_make_the_same_of_any_bars(items, spaced):
    data = json.dumps({"status": "OK", "results": items}, separators=None if spaced else (",", ":")).encode()
    same(barpages.listed(data)["results"], rows(parsed(data)["results"], unix_ms, NAMES))


def test_what_stands_around_the_bars_is_kept():
    found = barpages.listed(page(BAR, next_url="https://x.example/2"))
    assert (found["status"], found["next_url"]) == ("OK", "https://x.example/2")
    assert barpages.listed(b'{"status":"ERROR","error":"no"}') == {"status": "ERROR", "error": "no"}
    assert barpages.by_symbol(b'{"bars":null,"next_page_token":"x"}') == {"bars": None, "next_page_token": "x"}


@pytest.mark.parametrize(
    "spoil",
    [
        (b'"o": 130.465', b'"o": 130.465, "o": 1'),
        (b'"n": 5', b'"c": 5'),
        (b'"n": 5', b'"n": 5, "n": 6'),
        (b'"o": 130.465', b'"o": NaN'),
        (b'"o": 130.465', b'"o": 1e999'),
        (b'"status": "OK"', b'"results": [], "status": "OK"'),
        (b'"n": 5', b'"o" : 5'),
    ],
)
@pytest.mark.parametrize("tight", [False, True])
def test_a_page_that_lies_is_refused_as_a_whole(spoil, tight):
    data = page(BAR, BAR).replace(*spoil, 1)
    if tight:
        data = data.replace(b": ", b":").replace(b", ", b",")
    with pytest.raises(NotStrict):
        barpages.listed(data)


@pytest.mark.parametrize("cut", [1, 2, 50])
def test_a_page_that_is_cut_is_no_json(cut):
    with pytest.raises(NotJson):
        barpages.listed(page(BAR, BAR)[:-cut])


def test_bars_by_symbol_are_read_alike():
    bar = BAR | {"t": "2024-02-01T14:30:00Z"}
    data = json.dumps({"bars": {"AAPL": [bar, bar], "MSFT": []}, "next_page_token": None}).encode()
    found = barpages.by_symbol(data)
    same(found["bars"]["AAPL"], rows([bar, bar], rfc3339, NAMES))
    assert len(found["bars"]["MSFT"]) == 0
    twice = data.replace(b'"o": 130.465', b'"o": 1, "o": 2', 1)
    with pytest.raises(NotStrict):
        barpages.by_symbol(twice)
    odd = json.dumps({"bars": {"AAPL": [bar, bar | {"t": "noon"}]}}).encode()
    assert [one.reason for one in barpages.by_symbol(odd)["bars"]["AAPL"].refused] == [
        "time 'noon' is not an instant in UTC"
    ]
