"""Streams that were damaged on the way: whatever is accepted carries exactly the data that was written."""

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streams import decision, written

from marketagent import pipe
from marketagent.errors import Refused
from marketagent.records import Row

STREAM = written(
    decision("AAPL"),
    decision("BRK.B", score=-0.25, action="sell", reasoning='quote " and \\ back'),
    decision("TSLA", score=None, weight=None, close=None, action="hold"),
    then=lambda out: setattr(out, "incomplete", "cut"),
)
LINES = STREAM.splitlines(keepends=True)


def accepted(data, **options):
    """The records and the status of `data`, or None if it is refused; any other exception is a fault."""
    try:
        sealed = pipe.read(io.BytesIO(data), **options)
    except Refused:
        return None
    return sealed.begin, sealed.records, sealed.end.status, sealed.end.n


WHOLE = accepted(STREAM)


@pytest.mark.parametrize("allow_filtered", [False, True])
def test_every_prefix_is_refused(allow_filtered):
    assert WHOLE is not None
    assert not [n for n in range(len(STREAM)) if accepted(STREAM[:n], allow_filtered=allow_filtered)]


def test_a_changed_byte_is_refused_or_changes_no_data():
    rng = random.Random(7)
    changed = (
        STREAM[:n] + bytes([byte]) + STREAM[n + 1 :]
        for n in range(len(STREAM))
        for byte in {rng.randrange(256), rng.randrange(256), STREAM[n] ^ 1, STREAM[n] ^ 32} - {STREAM[n]}
    )
    verdicts = [accepted(data) for data in changed]
    assert len(verdicts) > 4000
    assert all(verdict in (None, WHOLE) for verdict in verdicts)
    assert verdicts.count(None) > 0.9 * len(verdicts)


def test_dropped_repeated_and_swapped_lines_are_refused():
    count = len(LINES)
    for i in range(count):
        assert accepted(b"".join(LINES[:i] + LINES[i + 1 :])) is None
        assert accepted(b"".join(LINES[: i + 1] + LINES[i:])) is None
        for j in range(i + 1, count):
            swapped = list(LINES)
            swapped[i], swapped[j] = swapped[j], swapped[i]
            assert accepted(b"".join(swapped)) is None
            assert accepted(b"".join(swapped), allow_filtered=True) is None


def test_two_joined_streams_are_refused_however_they_are_joined():
    other = written(decision("NVDA"))
    assert accepted(STREAM + STREAM) is None
    assert accepted(STREAM + other) is None
    assert accepted(b"".join(LINES[:-1]) + other) is None
    assert accepted(b"".join(LINES[:2]) + b"".join(other.splitlines(keepends=True)[1:])) is None


def test_random_splices_are_refused_or_change_no_data():
    rng = random.Random(11)
    for _ in range(2000):
        a, b, c, d = (rng.randrange(len(STREAM) + 1) for _ in range(4))
        data = STREAM[: min(a, b)] + STREAM[min(c, d) : max(c, d)] + STREAM[max(a, b) :]
        assert accepted(data) in (None, WHOLE)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.text(), JSON, max_size=5), max_size=5))
def test_whatever_is_written_is_read_back_bit_for_bit(rows):
    sealed = pipe.read(io.BytesIO(written(*(Row(values=row) for row in rows))))
    assert [repr(record["values"]) for record in sealed.records] == [repr(row) for row in rows]


@settings(max_examples=100, deadline=None)
@given(st.text(), st.text(), st.floats(-1, 1), st.floats(allow_nan=False, allow_infinity=False))
def test_hostile_texts_and_odd_floats_of_a_decision_come_back(symbol, reasoning, score, close):
    (found,) = pipe.read(
        io.BytesIO(written(decision(symbol, reasoning=reasoning, score=score, close=close))), kinds={"decision"}
    ).records
    assert (found["symbol"], found["reasoning"]) == (symbol, reasoning)
    assert (repr(found["score"]), repr(found["close"])) == (repr(score), repr(close))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.lists(st.sampled_from(LINES)).map(b"".join))
def test_no_input_makes_the_lenient_reader_fail_in_an_unforeseen_way(data):
    from marketagent.errors import MarketAgentError

    try:
        found = pipe.symbols_in([], io.BytesIO(data), {})
    except MarketAgentError:
        return
    if found.up is not None and found.incomplete is None:
        assert found.symbols == ("AAPL", "BRK.B", "TSLA")
