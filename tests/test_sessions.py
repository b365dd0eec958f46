"""Which sessions open a week or a month."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketagent.sessions import SCHEDULES, due

days = st.lists(st.dates(date(1960, 1, 1), date(2060, 1, 1)), unique=True, max_size=80).map(sorted)


def of(found: list[date]) -> np.ndarray:
    return np.array(found, dtype="datetime64[D]")


@given(days)
def test_the_first_session_of_each_iso_week_and_month_is_due(found: list[date]) -> None:
    weeks, months = [d.isocalendar()[:2] for d in found], [(d.year, d.month) for d in found]
    for schedule, periods in (("weekly", weeks), ("monthly", months)):
        expected = [k == 0 or periods[k] != periods[k - 1] for k in range(len(found))]
        assert due(of(found), schedule).tolist() == expected
    assert due(of(found), "daily").tolist() == [True] * len(found)


@given(days, st.integers(0, 80))
def test_a_session_is_due_whatever_follows(found: list[date], rows: int) -> None:
    for schedule in SCHEDULES:
        assert due(of(found), schedule)[:rows].tolist() == due(of(found[:rows]), schedule).tolist()


def test_a_holiday_moves_the_decision_to_the_first_session_there_is() -> None:
    # 2013-09-02 was Labor Day: the week and the month open on Tuesday the 3rd.
    sessions = of([date(2013, 8, 29), date(2013, 8, 30), date(2013, 9, 3), date(2013, 9, 4)])
    assert due(sessions, "weekly").tolist() == due(sessions, "monthly").tolist() == [True, False, True, False]


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="'hourly' is none of bar, daily, weekly, monthly"):
        due(of([]), "hourly")
