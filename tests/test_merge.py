"""Storing in parts is storing at once; a correction adds; a second run does nothing."""

from datetime import date, timedelta

import numpy as np
import pytest
from prices import HEAD, NOW, History, ask, contents, fetch, new_home, panel_bytes, write

from marketagent import intake
from marketagent.sources import Batch
from marketagent.store.market import read_panel
from marketagent.store.staged import Options


@pytest.fixture
def home(tmp_path):
    return new_home(tmp_path)


CUT = 108  # the session of the split, 2014-06-09


@pytest.mark.parametrize(
    ("actions", "parts"),
    [
        ("given", [(0, CUT), (CUT, None)]),
        ("given", [(CUT, None), (0, CUT)]),
        ("given", [(CUT - 30, None), (0, CUT + 30)]),
        ("adjusted", [(0, CUT), (CUT, None)]),
        ("adjusted", [(CUT, None), (0, CUT)]),
        ("adjusted", [(0, CUT + 30), (CUT - 30, None)]),
        ("adjusted", [(CUT - 30, None), (0, CUT + 30)]),
        ("adjusted", [(151, None), (25, 151), (24, 25), (0, 24)]),
        ("adjusted", [(0, 88), (151, None), (88, 151)]),
        ("adjusted", [(151, None), (0, 88), (80, 160)]),
        ("adjusted", [(60, 160), (0, None)]),
    ],
    ids=str,
)
def test_a_history_stored_in_parts_is_the_one_stored_at_once(tmp_path, home, actions, parts):
    history = History()
    assert history.days[CUT] == date(2014, 6, 9)
    for n, (first, last) in enumerate(parts):
        fetch(home, history.file(tmp_path / f"{n}.csv", first, last, actions=actions), now=NOW + timedelta(minutes=n))
    (tmp_path / "whole").mkdir()
    whole = new_home(tmp_path / "whole")
    fetch(whole, history.file(tmp_path / "whole.csv", actions=actions))
    assert panel_bytes(home) == panel_bytes(whole)
    wanted = sorted(
        [(history.days[row], "split", 7.0) for row in history.split]
        + [(history.days[row], "dividend", value) for row, value in history.dividend.items()]
    )
    assert ask(home, "SELECT session, kind, value FROM actions ORDER BY 1") == wanted


def test_a_later_printing_of_the_second_half_is_no_split(tmp_path, home):
    """The first half was printed before the split: its adjusted close is the close, seven times the later one."""
    history = History()
    late = history.adjusted[CUT - 20] / history.close[CUT - 20]
    fetch(home, history.file(tmp_path / "1.csv", 0, CUT - 19, actions="adjusted", base=1 / late))
    taken = fetch(home, history.file(tmp_path / "2.csv", CUT - 19, None, actions="adjusted"))
    assert not taken.failed
    assert ask(home, "SELECT session FROM actions WHERE kind = 'split'") == [(date(2014, 6, 9),)]
    dividends = ask(home, "SELECT session, value FROM actions WHERE kind = 'dividend' ORDER BY 1")
    assert [row[0] for row in dividends] == [history.days[row] for row in history.dividend]


def test_an_older_part_printed_later_is_no_split_either(tmp_path, home):
    history = History()
    fetch(home, history.file(tmp_path / "1.csv", CUT + 20, None, actions="adjusted"))
    fetch(home, history.file(tmp_path / "2.csv", CUT, CUT + 20, actions="adjusted", base=1 / 4))
    assert ask(home, "SELECT count(*) FROM actions WHERE kind = 'split'") == [(0,)]
    assert ask(home, f"SELECT count(*) FROM actions WHERE session = '{history.days[CUT + 20]}'") == [(0,)]


def test_what_is_inferred_never_replaces_what_was_given(tmp_path, home):
    history = History()
    fetch(home, history.file(tmp_path / "1.csv", actions="given"))
    before = ask(home, "FROM actions ORDER BY ALL")
    changed = History()
    changed.adjusted[:24] *= 0.99
    fetch(home, changed.file(tmp_path / "2.csv", actions="adjusted"))
    assert ask(home, "FROM actions ORDER BY ALL") == before


def test_a_file_with_columns_replaces_what_was_inferred(tmp_path, home):
    history = History()
    fetch(home, history.file(tmp_path / "1.csv", actions="adjusted"))
    assert ask(home, "SELECT DISTINCT inferred FROM actions") == [(True,)]
    fetch(home, history.file(tmp_path / "2.csv", actions="given"), now=NOW + timedelta(minutes=1))
    assert ask(home, "SELECT count(*), bool_or(inferred) FROM actions") == [(5, False)]
    assert ask(home, "SELECT count(*) FROM superseded_actions") == [(5,)]


def test_a_correction_keeps_the_row_it_replaces_and_both_times(tmp_path, home):
    fetch(home, write(tmp_path / "1.csv", HEAD + "IBM,2014-01-02,10,11,9,10,100\nIBM,2014-01-03,10,11,9,10,100\n"))
    later = NOW + timedelta(hours=1)
    path = write(tmp_path / "2.csv", HEAD + "IBM,2014-01-02,10,11,9,10,100\nIBM,2014-01-03,10,11,9,10.5,100\n")
    taken = fetch(home, path, now=later)
    assert (taken.fetched["IBM"].added, taken.fetched["IBM"].corrected) == (0, 1)
    at, then = NOW.replace(tzinfo=None), later.replace(tzinfo=None)
    assert ask(home, "SELECT close, known_at FROM bars ORDER BY session") == [(10, at), (10.5, then)]
    assert ask(home, "SELECT close, known_at, superseded_at FROM superseded_bars") == [(10, at, then)]


@pytest.mark.parametrize("actions", ["given", "adjusted"])
def test_a_view_of_the_past_is_the_one_that_was_had_then(tmp_path, home, actions):
    history = History()
    fetch(home, history.file(tmp_path / "1.csv", actions=actions))
    before = panel_bytes(home)
    history.close[30] = history.low[30]
    history.dividend[88] = 3.5
    history.split = {CUT: 8.0}
    factor = np.ones(len(history.days))
    for row in range(len(factor)):
        factor[row:] *= history.split.get(row, 1.0) * (1 + history.dividend.get(row, 0.0) / history.close[row])
    history.adjusted = history.close * factor / factor[-1]
    fetch(home, history.file(tmp_path / "2.csv", actions=actions), now=NOW + timedelta(hours=1))
    assert panel_bytes(home) != before
    assert panel_bytes(home, known_at=NOW) == before
    assert panel_bytes(home, known_at=NOW + timedelta(minutes=59)) == before
    assert panel_bytes(home, known_at=NOW + timedelta(hours=1)) == panel_bytes(home)


def test_the_source_is_chosen_by_what_was_known(tmp_path, home):
    history = History()
    fetch(home, history.file(tmp_path / "1.csv", 0, 100))
    before = panel_bytes(home)
    with_other = [(history.symbol, "other", len(history.days))]
    path = history.file(tmp_path / "2.csv")
    batch = Batch(path=path, name="2", fingerprint="2", source="other", options=Options())
    intake.take(home, batch, NOW + timedelta(hours=1), timeout_s=60)
    panel = read_panel(home, None)
    assert [(panel.symbols[0], panel.sources[0], len(panel.sessions))] == with_other
    assert panel_bytes(home, known_at=NOW) == before


def test_the_same_content_is_stored_once_under_whatever_name(tmp_path, home):
    text = HEAD + "IBM,2014-01-02,10,11,9,10,100\n"
    fetch(home, write(tmp_path / "1.csv", text))
    before = contents(home)
    for name in ("1.csv", "2.csv"):
        taken = fetch(home, write(tmp_path / name, text), now=NOW + timedelta(hours=1))
        assert (taken.fetched["IBM"].bars, taken.fetched["IBM"].added) == (1, 0)
    assert contents(home) == before


def test_other_options_read_the_file_again_and_store_nothing_twice(tmp_path, home):
    path = write(tmp_path / "1.csv", HEAD + "IBM,2014-01-02,10,11,9,10,100\nIBM,2014-01-03,10,11,9,10,100\n")
    fetch(home, path, last="2014-01-02")
    taken = fetch(home, path)
    assert (taken.fetched["IBM"].bars, taken.fetched["IBM"].added) == (2, 1)
    assert ask(home, "SELECT count(*) FROM superseded_bars") == [(0,)]


@pytest.mark.parametrize("slip", [1000.0 * 1.5, 1 / 1500])
def test_a_slipped_digit_beside_a_stored_bar_is_refused(tmp_path, home, slip):
    fetch(home, write(tmp_path / "1.csv", HEAD + "IBM,2014-01-02,10,11,9,10,100\n"))
    p = 10 * slip
    taken = fetch(home, write(tmp_path / "2.csv", HEAD + f"IBM,2014-01-03,{p},{p},{p},{p},100\n"))
    assert (taken.fetched["IBM"].bars, taken.fetched["IBM"].quarantined) == (1, 1)
    assert ask(home, "SELECT line, session_text FROM quarantine WHERE reason LIKE '%thousand times off%'") == [
        (2, "2014-01-03")
    ]


def test_a_consolidation_of_a_thousand_is_believed_where_it_is_given(tmp_path, home):
    fetch(home, write(tmp_path / "1.csv", HEAD + "IBM,2014-01-02,10,11,9,10,100\n"))
    text = HEAD.strip() + ",split\nIBM,2014-01-03,20000,20000,20000,20000,100,0.0005\n"
    taken = fetch(home, write(tmp_path / "2.csv", text))
    assert (taken.fetched["IBM"].bars, taken.fetched["IBM"].quarantined) == (2, 0)
