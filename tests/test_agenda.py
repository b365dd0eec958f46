"""What stands on which row: the look-ups must say what a look at every row says."""

import numpy as np

from marketagent.agenda import Agenda
from marketagent.simulate import silent_from
from tests.markets import random_market


def test_the_next_change_is_the_first_row_with_an_end_or_a_split_of_what_is_held() -> None:
    for seed in range(30):
        panel, rng = random_market(seed), np.random.default_rng(seed)
        closes_on, shares = silent_from(panel), rng.choice([0.0, 10.0], len(panel.symbols))
        agenda, length = Agenda(panel, closes_on), len(panel.sessions)
        changing = [
            t for t in range(length) if (closes_on == t).any() or ((panel.split[t] != 1.0) & (shares != 0)).any()
        ]
        for t in range(length):
            last = int(rng.integers(t, length + 1))
            assert agenda.next_change(shares, t, last) == min(
                [row for row in changing if t <= row < last], default=last
            )
            assert agenda.is_ending(t) == (closes_on == t).any()


def test_dividends_are_those_of_the_rows_asked_for_on_what_is_held() -> None:
    for seed in range(30):
        panel, rng = random_market(seed), np.random.default_rng(seed)
        shares, agenda = rng.choice([0.0, 10.0, -5.0], len(panel.symbols)), Agenda(panel, silent_from(panel))
        t, last = sorted(rng.integers(0, len(panel.sessions) + 1, 2).tolist())
        expected = [
            (row, n, float(shares[n]), float(panel.dividend[row, n]))
            for row in range(t, last)
            for n in range(len(shares))
            if shares[n] and panel.dividend[row, n] > 0
        ]
        assert list(zip(*(column.tolist() for column in agenda.dividends(shares, t, last)), strict=True)) == expected
        assert agenda.is_paying(t, last) == (panel.dividend[t:last] > 0).any()


def test_a_row_has_anything_where_a_symbol_splits_pays_or_ends() -> None:
    for seed in range(30):
        panel = random_market(seed)
        closes_on = silent_from(panel)
        acts = ((panel.split != 1.0) | (panel.dividend > 0)).any(axis=1)
        ends = np.isin(np.arange(len(panel.sessions)), closes_on)
        np.testing.assert_array_equal(Agenda(panel, closes_on).anything(), acts | ends)
        for t in range(len(panel.sessions)):
            assert Agenda(panel, closes_on).splitting(t).tolist() == np.flatnonzero(panel.split[t] != 1.0).tolist()
