"""What the tests of the store's prices share: a home with a calendar, small files, and a synthetic history."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from streams import MA, environment

from marketagent import cli, intake
from marketagent.sources import csv
from marketagent.store.database import opened
from marketagent.store.market import read_panel
from marketagent.store.staged import Options

NOW = datetime(2026, 11, 20, 21, 5, tzinfo=UTC)
HEAD = "symbol,date,open,high,low,close,volume\n"


@cache
def _template() -> Path:
    """A complete home, made once: taking the calendar costs two seconds."""
    folder = Path(tempfile.mkdtemp(prefix="ma-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # In a process of its own: what exchange_calendars warns of is an error in the tests.
    subprocess.run([*MA, "init"], env=environment(folder / "home"), capture_output=True, check=True)
    return folder / "home"


def new_home(folder: Path) -> Path:
    return Path(shutil.copytree(_template(), folder / "home"))


def fetch(home: Path, *files: Path | str, now: datetime = NOW, **options: Any) -> intake.Taken:
    """``ma fetch --source csv`` without a process."""
    return intake.take_all(home, csv, [str(file) for file in files], Options(**options), now, 60)


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def ask(home: Path, sql: str) -> list[tuple[Any, ...]]:
    with opened(home / "market.duckdb") as con:
        return con.execute(sql).fetchall()


def ma(home: Path, *words: object, stdin: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(
        [*MA, *map(str, words)], env=environment(home, **env), capture_output=True, text=True, timeout=120, **given
    )


def here(home: Path, monkeypatch: Any, capfd: Any, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
    """The same in this process: a tenth of the time, where only the words and the code matter."""
    with monkeypatch.context() as patch, Path(os.devnull).open(encoding="utf-8") as nothing:
        patch.setattr(sys, "stdin", nothing)
        for name, value in {"MA_HOME": str(home), "MA_DEBUG": "0", **env}.items():
            patch.setenv(name, value)
        code = cli.run([str(word) for word in words])
        out, err = capfd.readouterr()
    return subprocess.CompletedProcess(words, code, out, err)


def contents(home: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table of the market but the calendar, for comparing before and after."""
    tables = [
        "bars",
        "superseded_bars",
        "actions",
        "superseded_actions",
        "coverage",
        "files",
        "file_symbols",
        "quarantine",
    ]
    with opened(home / "market.duckdb") as con:
        return {table: con.execute(f"FROM {table} ORDER BY ALL").fetchall() for table in tables}


@cache
def sessions(first: str, last: str) -> tuple[date, ...]:
    with opened(_template() / "market.duckdb") as con:
        rows = con.execute(f"SELECT session FROM sessions WHERE session BETWEEN '{first}' AND '{last}' ORDER BY 1")
        return tuple(row[0] for row in rows.fetchall())


class History:
    """A year of one symbol as traded, with a 7:1 split and four dividends, like Apple's 2014."""

    def __init__(self, symbol: str = "AAPL", seed: int = 7) -> None:
        rng = np.random.default_rng(seed)
        self.symbol = symbol
        self.days = sessions("2014-01-02", "2014-12-31")
        t = len(self.days)
        self.split = {self.days.index(date(2014, 6, 9)): 7.0}
        self.dividend = {24: 3.05, 88: 3.29, 151: 0.47, 214: 0.47}
        shares = np.ones(t)
        shares[self.days.index(date(2014, 6, 9)) :] = 7.0
        self.close = np.round(550 * np.exp(np.cumsum(rng.normal(0, 0.012, t))) / shares, 2)
        self.open = np.round(self.close * (1 + rng.normal(0, 0.004, t)), 2)
        self.high = np.round(np.maximum(self.open, self.close) * 1.01, 2)
        self.low = np.round(np.minimum(self.open, self.close) * 0.99, 2)
        self.volume = rng.integers(10**6, 10**8, t)
        factor = np.ones(t)
        for row in range(t):
            factor[row:] *= self.split.get(row, 1.0) * (1 + self.dividend.get(row, 0.0) / self.close[row])
        self.adjusted = self.close * factor / factor[-1]

    def rows(self, first: int = 0, last: int | None = None, *, actions: str = "none", base: float = 1.0) -> str:
        """Lines of a CSV without its header; `actions` given, adjusted or none."""
        lines = []
        for row in range(*slice(first, last).indices(len(self.days))):
            cells = [self.symbol, self.days[row], self.open[row], self.high[row], self.low[row], self.close[row]]
            cells += [self.volume[row]]
            if actions == "given":
                cells += [self.split.get(row, 1.0), self.dividend.get(row, 0.0)]
            if actions == "adjusted":
                cells += [f"{self.adjusted[row] * base:.6f}"]
            lines.append(",".join(map(str, cells)))
        return "\n".join(lines) + "\n"

    @staticmethod
    def head(actions: str) -> str:
        more: Mapping[str, str] = {"given": ",split,dividend", "adjusted": ",adj_close", "none": ""}
        return HEAD.strip() + more[actions] + "\n"

    def file(self, path: Path, first: int = 0, last: int | None = None, **how: Any) -> Path:
        return write(path, self.head(how.get("actions", "none")) + self.rows(first, last, **how))


def panel_bytes(home: Path, **how: Any) -> bytes:
    """An adjusted panel to compare bit for bit."""
    panel = read_panel(home, None, **how)
    parts = (panel.open, panel.high, panel.low, panel.close, panel.volume, panel.split, panel.dividend)
    return b"".join([panel.sessions.tobytes(), " ".join(panel.symbols).encode(), *(part.tobytes() for part in parts)])
