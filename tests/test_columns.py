"""Rows given as columns in arrays: what comes out of the table is what went in."""

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

from marketagent.store.columns import Coded, insert
from marketagent.store.connection import Connection

ROOT = Path(__file__).parents[1]
TABLE = "CREATE TABLE rows (session DATE, ts TIMESTAMP, symbol VARCHAR, price DOUBLE)"


def stored(columns):
    with duckdb.connect() as raw:
        raw.execute(TABLE)
        insert(Connection(raw), "rows", columns)
        return raw.execute("SELECT * FROM rows").fetchall()


def columns_of(days, names, codes, prices):
    instants = np.array(days, dtype="datetime64[s]")
    return {
        "session": ("DATE", np.array(days, dtype="datetime64[D]")),
        "ts": ("TIMESTAMP", instants + np.timedelta64(52_200, "s")),
        "symbol": ("VARCHAR", Coded(names, np.array(codes, dtype=np.int64))),
        "price": ("DOUBLE", np.array(prices, dtype=np.float64)),
    }


def test_every_row_comes_out_as_it_went_in_and_nothing_is_null_that_was_not():
    rows = stored(columns_of(["2024-01-02", "NaT", "1999-12-31"], ["A", "B'"], [1, 0, 1], [0.1, -1e-300, 1e300]))
    assert [str(row[0]) for row in rows] == ["2024-01-02", "None", "1999-12-31"]
    assert [str(row[1]) for row in rows] == ["2024-01-02 14:30:00", "None", "1999-12-31 14:30:00"]
    assert [row[2:] for row in rows] == [("B'", 0.1), ("A", -1e-300), ("B'", 1e300)]


def test_columns_that_skip_are_read_in_their_order():
    prices = np.arange(10.0)[::2]
    assert [row[3] for row in stored({"price": ("DOUBLE", prices)})] == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_no_rows_are_no_rows():
    assert stored(columns_of([], ["A"], [], [])) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="price has a value that is not finite"):
        stored({"price": ("DOUBLE", np.array([1.0, value]))})


def test_nobody_pays_for_pandas():
    program = (
        "import sys, tests.test_columns as t; t.test_every_row_comes_out_as_it_went_in_and_nothing_is_null_that_was_not();"
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
