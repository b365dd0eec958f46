"""The audit: every planted look ahead is caught, honest strategies are left alone, and the warm-up is what it is."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from markets import panel_of, random_market
from test_costing import ma

from marketagent import catalog
from marketagent.audit import AGAIN, CUT, NOISE, history_needed, lookahead
from marketagent.indicators import sma
from marketagent.panel import Array, Panel
from marketagent.signals import Signal
from marketagent.store.corrections import read_corrections
from marketagent.store.database import opened
from marketagent.store.market import read_panel
from marketagent.strategy import Opinions, Strategy

NOWHERE = Path("/nowhere")
PANEL = random_market(5, sessions=120, symbols=4)
ROWS = [40, 60, 80, 100]
OPINIONS = {
    "told": Signal(np.random.default_rng(1).uniform(-1, 1, PANEL.shape), np.random.default_rng(2).random(PANEL.shape))
}


def shifted(values: Array, by: int) -> Array:
    """`values` moved down by `by` rows (up, if negative), NaN where nothing comes from."""
    moved = np.full_like(values, np.nan)
    moved[max(by, 0) : len(values) + min(by, 0)] = values[max(-by, 0) : len(values) - max(by, 0)]
    return moved


def filled_backwards(values: Array) -> Array:
    return np.array(
        [[next((v for v in column[t:] if np.isfinite(v)), np.nan) for column in values.T] for t in range(len(values))]
    )


LEAKS: dict[str, Callable[[Panel, Opinions], Array]] = {
    "tomorrow's close": lambda p, o: shifted(p.close, -1) - p.close,
    "tomorrow's open, tonight": lambda p, o: shifted(p.open, -1) - p.close,
    "a z-score over the whole sample": lambda p, o: p.close - np.nanmean(p.close, axis=0),
    "a centred window": lambda p, o: p.close - shifted(sma(p.close, 5), -2),
    "the highest close there will be": lambda p, o: 0.9 * np.nanmax(p.close, axis=0) - p.close,
    "prices adjusted back from today's splits": lambda p, o: p.raw.close * p.split_factor / p.split_factor[-1] - 10,
    "a gap filled from behind": lambda p, o: filled_backwards(p.close) - shifted(filled_backwards(p.close), 1),
    "only those that survive": lambda p, o: np.where(p.has_bar[-1], 1.0, np.nan) * p.close,
    "a rank of the whole past and future": lambda p, o: (
        np.argsort(np.argsort(p.close, axis=0), axis=0) - len(p.close) / 2
    ),
    "a line fitted through everything": lambda p, o: (
        np.nan_to_num(p.close) @ np.eye(p.shape[1]) - np.nanmedian(p.close)
    ),
    "how far the end is": lambda p, o: np.broadcast_to(np.arange(p.shape[0])[:, None] - p.shape[0] / 2, p.shape),
    "tomorrow's dividend": lambda p, o: np.maximum.accumulate(p.dividend[::-1], axis=0)[::-1] - 0.5,
    "tomorrow's opinion": lambda p, o: shifted(o["told"].value, -1),
    "the volume of the day after": lambda p, o: shifted(p.volume, -1) - p.volume,
    "smoothed forwards and back": lambda p, o: sma(sma(p.close, 3)[::-1].copy(), 3)[::-1] - p.close,
    "tomorrow's return of one other symbol": lambda p, o: np.repeat(shifted(p.returns, -1)[:, :1], p.shape[1], axis=1),
}


def leaking(leak: Callable[[Panel, Opinions], Array]) -> Strategy:
    class Leaking(Strategy):
        def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
            return {"idea": Signal(np.sign(leak(panel, opinions)))}

    return Leaking()


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_leak_is_caught(name: str) -> None:
    leaks = lookahead(lambda: leaking(LEAKS[name]), PANEL, OPINIONS, ROWS, seed=1)
    assert leaks
    assert {leak.how for leak in leaks} <= {NOISE, CUT}
    assert all(leak.row <= leak.known and leak.changed > 0 for leak in leaks)
    assert leaks[0].what == "idea"


def test_a_leak_into_the_confidence_alone_is_caught() -> None:
    class Sure(Strategy):
        def signals(self, panel: Panel, opinions: Opinions) -> dict[str, Signal]:
            return {"idea": Signal(np.ones(panel.shape), (shifted(panel.close, -1) > panel.close) * 0.5)}

    assert lookahead(Sure, PANEL, {}, ROWS, seed=1)


REMEMBERED = {
    "on itself": (
        "if not hasattr(self, '_mean'):\n"
        "            object.__setattr__(self, '_mean', np.nanmean(panel.close))\n"
        "        mean = self._mean"
    ),
    "in its module": "mean = CACHE.setdefault(self.params()['gross'], np.nanmean(panel.close))",
    "in its class": "mean = Mine.seen.setdefault('mean', np.nanmean(panel.close))",
    "in its module, looked up by name": "mean = vars(sys.modules[__name__]).setdefault('mean', np.nanmean(panel.close))",
    "in a cached function": "mean = of_everything(Once(panel))",
}
REMEMBERING = """import sys
from functools import cache
import numpy as np
from marketagent.signals import Signal
from marketagent.strategy import Strategy

CACHE = {{}}


class Once:
    def __init__(self, panel):
        self.panel = panel

    def __hash__(self):
        return 1

    def __eq__(self, other):
        return True


@cache
def of_everything(once):
    return np.nanmean(once.panel.close)


class Mine(Strategy):
    seen = {{}}

    def signals(self, panel, opinions):
        {remember}
        return {{"idea": Signal(np.sign(panel.close - mean))}}
"""


@pytest.mark.parametrize("where", REMEMBERED)
def test_a_leak_that_is_remembered_is_caught(where: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(REMEMBERING.format(remember=REMEMBERED[where]), encoding="utf-8")
    loaded = catalog.load(str(file), NOWHERE)
    make = partial(loaded.fresh, loaded.configured({}).params())
    leaks = lookahead(make, PANEL, OPINIONS, ROWS, seed=1)
    assert {leak.what for leak in leaks} == {"idea", "target"}
    assert {leak.how for leak in leaks} <= {NOISE, CUT}
    assert history_needed(make, PANEL, OPINIONS, ROWS) > 1


def test_what_is_decided_by_dice_is_said_to_be() -> None:
    dice = np.random.default_rng(3)
    leaks = lookahead(lambda: leaking(lambda p, o: dice.normal(size=p.shape)), PANEL, {}, ROWS, seed=1)
    assert {leak.how for leak in leaks} == {AGAIN}


HONEST: dict[str, Callable[[Panel, Opinions], Array]] = {
    "a trend": lambda p, o: p.close - sma(p.close, 10),
    "a rank of the day": lambda p, o: np.argsort(np.argsort(np.nan_to_num(p.close), axis=1), axis=1) - 1.5,
    "what is known of the past": lambda p, o: p.close - np.maximum.accumulate(np.nan_to_num(p.close), axis=0),
    "an opinion": lambda p, o: o["told"].value,
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_idea_is_left_alone(name: str) -> None:
    assert lookahead(lambda: leaking(HONEST[name]), PANEL, OPINIONS, ROWS, seed=1) == []


@pytest.mark.parametrize("name", sorted(catalog.files(NOWHERE)))
def test_the_built_in_strategies_do_not_look_ahead(name: str) -> None:
    short = {"fast": "4", "slow": "9", "lookback": "20", "skip": "2", "trend": "12", "window": "5"}
    loaded = catalog.load(name, NOWHERE)
    strategy = loaded.configured({key: value for key, value in short.items() if key in loaded.kind.own()})
    for seed in range(4):
        panel = random_market(seed, sessions=120)
        for sizing in ("equal", "inverse_volatility", "top_k"):
            params = {**strategy.params(), "sizing": sizing, "rebalance": "weekly"}
            assert lookahead(partial(loaded.fresh, params), panel, {}, [30, 59, 60, 101], seed=2) == []


def test_the_history_a_decision_rests_on_is_found() -> None:
    panel = panel_of(50 + np.random.default_rng(4).normal(0, 5, (200, 2)))
    assert history_needed(lambda: leaking(lambda p, o: p.close - sma(p.close, 37)), panel, {}, [120, 198]) == 37
    assert history_needed(lambda: leaking(lambda p, o: np.ones(p.shape)), panel, {}, [120]) == 1
    # the highest of all history is forgotten only where history begins
    ever = leaking(lambda p, o: p.close - np.maximum.accumulate(p.close, axis=0) * 0.999)
    top = int(panel.close[:121, 0].argmax()), int(panel.close[:121, 1].argmax())
    assert history_needed(lambda: ever, panel, {}, [120]) <= 121 - min(top)


def test_the_commands_say_what_they_found_and_end_with_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ma(home, "init")
    ma(home, "fetch", "--source", "sample", "AAPL", "IBM")
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "from marketagent.signals import Signal\n"
        "from marketagent.strategy import Strategy\n\n\n"
        "class Mine(Strategy):\n"
        '    """Buys what rises tomorrow."""\n\n'
        "    def signals(self, panel, opinions):\n"
        "        ahead = np.full(panel.shape, np.nan)\n"
        "        ahead[:-1] = panel.close[1:]\n"
        "        return {'ahead': Signal(np.sign(ahead - panel.close))}\n",
        encoding="utf-8",
    )
    code, leaks = audited(home, "lookahead", "--strategy", str(file), "--samples", "4")
    assert code == 1
    assert {leak["what"] for leak in leaks} == {"ahead", "target"}
    assert all(leak["session"] == leak["known"] for leak in leaks)
    assert audited(home, "lookahead", "--strategy", "momentum", "--samples", "3") == (0, [])
    code, (found,) = audited(home, "warmup", "--strategy", "sma_cross", "--samples", "2")
    assert (code, found["warmup"], found["needed"]) == (0, 50, 50)


def test_decisions_that_rest_on_a_later_correction_are_named_and_are_not_the_strategys_fault(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ma(home, "init")
    ma(home, "fetch", "--source", "sample", "AAPL", "IBM")
    panel = read_panel(home, None)
    days = panel.days.tolist()
    at, column = days.index(date(2010, 3, 1)), panel.symbols.index("IBM")
    stored = "2010-03-01 22:00"  # that evening, and corrected two sessions later
    with opened(home / "market.duckdb", write=True) as con:
        con.execute(
            "INSERT INTO superseded_bars SELECT * REPLACE (close * 0.5 AS close, low * 0.5 AS low, ? AS known_at), ?"
            " FROM bars WHERE symbol = 'IBM' AND session = '2010-03-01'",
            [stored, "2010-03-03 14:00"],
        )
        con.execute(
            "INSERT INTO superseded_actions VALUES ('AAPL', '2010-03-02', 'split', 2.0, 'sample', ?, false, ?)",
            ["2010-03-02 22:00", "2010-03-02 23:00"],  # taken back before anybody had to decide
        )
    found = read_corrections(home, panel, timeout_s=5)
    assert found.rows(8) == [at, at + 1]
    undone = found.undone(at + 1)
    assert undone.raw.close[at, column] == 0.5 * panel.raw.close[at, column]
    changed = {name: (getattr(undone.raw, name) != getattr(panel.raw, name)).sum() for name in ("open", "low", "close")}
    assert changed == {"open": 0, "low": 1, "close": 1}
    assert (undone.split == panel.split).all()
    code, lines = audited(
        home, "lookahead", "--strategy", "sma_cross", "--set", "fast=1", "--set", "slow=2", "--samples", "3"
    )
    assert code == 0
    assert [line["how"] for line in lines] == ["corrections undone"] * len(lines)
    assert {line["symbol"] for line in lines} == {"IBM"}
    assert {line["known"] for line in lines} <= {"2010-03-01", "2010-03-02"}
    assert audited(home, "lookahead", "--strategy", "sma_cross", "AAPL", "--samples", "3") == (0, [])


def test_a_split_that_was_taken_back_later_is_put_back(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ma(home, "init")
    ma(home, "fetch", "--source", "sample", "AAPL")
    panel = read_panel(home, None)
    at = panel.days.tolist().index(date(2010, 3, 2))
    with opened(home / "market.duckdb", write=True) as con:
        con.execute(
            "INSERT INTO superseded_actions VALUES ('AAPL', '2010-03-02', 'split', 2.0, 'sample', ?, false, ?)",
            ["2010-03-02 22:00", "2010-03-08 22:00"],
        )
    found = read_corrections(home, panel, timeout_s=5)
    assert found.rows(8) == [at, at + 1, at + 2, at + 3]  # to Friday the 5th: on Monday evening it is right
    assert found.undone(at).split[at, 0] == 2.0
    assert (found.undone(at - 1).split == panel.split).all()


def audited(home: Path, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    done = subprocess.run(
        [sys.executable, "-m", "marketagent", "audit", *arguments],
        env={"MA_HOME": str(home), "PATH": "/usr/bin:/bin"},
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, [line for line in lines if line["kind"] in ("leak", "warmup")]
