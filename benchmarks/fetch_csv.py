"""How quickly a large file of prices gets into the store: CSV and Parquet, against DuckDB's bare table of the same file.

The floor does none of what ``ma fetch`` must do: no checks, no calendar, no merge, no order. Argument: rows (2,000,000).
"""

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also runs from a bare checkout

import duckdb

from marketagent import intake, setup
from marketagent.sources import csv
from marketagent.store.database import opened
from marketagent.store.staged import Options

NOW = datetime(2026, 11, 20, 21, 5, tzinfo=UTC)
PRICES = """
    SELECT 'S' || lpad((n // sessions)::VARCHAR, 4, '0') AS symbol, session AS date,
           round(100 + 20 * sin(n / 50), 2) AS open, round(103 + 20 * sin(n / 50), 2) AS high,
           round(97 + 20 * sin(n / 50), 2) AS low, round(101 + 20 * sin(n / 50), 2) AS close,
           (1e6 + n % 1000)::BIGINT AS volume
    FROM (SELECT range AS n, (SELECT count(*) FROM days) AS sessions FROM range({rows})) JOIN days ON n % sessions = place
    ORDER BY n
"""


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _write(folder, rows)
        print(f"{rows:,} rows a file")
        print(f"{'':28}{'seconds':>9}{'rows a second':>16}{'floor':>8}")
        for file in files:
            floor = _timed(lambda file=file: _bare(folder, file))
            _tell(f"{file.suffix[1:]}: bare table", floor, rows, floor)
            home = folder / f"home-{file.suffix[1:]}"
            setup.ready(home, NOW, timeout_s=60)
            _tell(f"{file.suffix[1:]}: into the store", _timed(lambda f=file, h=home: _store(h, f)), rows, floor)
            _tell(f"{file.suffix[1:]}: the same again", _timed(lambda f=file, h=home: _store(h, f)), rows, floor)
            with opened(home / "market.duckdb") as con:
                assert con.execute("SELECT count(*) FROM bars").fetchone() == (rows,)


def _write(folder: Path, rows: int) -> list[Path]:
    setup.ready(folder / "calendar", NOW, timeout_s=60)
    with opened(folder / "calendar" / "market.duckdb") as con:
        con.execute(
            "CREATE TEMP TABLE days AS SELECT session, row_number() OVER (ORDER BY session) - 1 AS place FROM sessions"
            " WHERE session BETWEEN '2010-01-01' AND '2019-12-31'"
        )
        files = [folder / "prices.csv", folder / "prices.parquet"]
        for file in files:
            con.execute(f"COPY ({PRICES.format(rows=rows)}) TO '{file}'")
    return files


def _bare(folder: Path, file: Path) -> None:
    with duckdb.connect(str(folder / f"bare-{file.suffix[1:]}.duckdb")) as con:
        con.execute(f"CREATE TABLE bars AS FROM '{file}'")


def _store(home: Path, file: Path) -> None:
    taken = intake.take_all(home, csv, [str(file)], Options(), NOW, 60)
    assert not taken.failed


def _timed(act: Callable[[], None]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def _tell(name: str, seconds: float, rows: int, floor: float) -> None:
    print(f"{name:28}{seconds:9.2f}{rows / seconds:16,.0f}{seconds / floor:8.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000)
