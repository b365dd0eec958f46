"""Strategy files: found by name or path, and every way they can be wrong told in one line with its place."""

import hashlib
import io
import os
import textwrap
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from markets import random_market

from marketagent.catalog import blame, files, load
from marketagent.decision import BadStrategy, Decisions, decide
from marketagent.errors import UsageError
from marketagent.panel import Panel

GOOD = """
import numpy as np
from marketagent.signals import Signal
from marketagent.strategy import Strategy, param

class Mine(Strategy):
    '''Mine alone.

    More of it.
    '''

    window: int = param(5, 2, 50, "sessions")

    def signals(self, panel, opinions):
        return {"mine": Signal(np.where(panel.has_bar, 0.5, np.nan))}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "strategies").mkdir()
    return tmp_path


@pytest.fixture(scope="module")
def panel() -> Panel:
    return random_market(4)


def written(home: Path, text: str, name: str = "mine") -> Path:
    file = home / "strategies" / f"{name}.py"
    file.write_text(textwrap.dedent(text))
    return file


def decided(home: Path, text: str, panel: Panel) -> Decisions:
    """What happens to a strategy on its way from the file to decisions."""
    loaded = load(str(written(home, text)), home)
    strategy = loaded.configured({})
    with blame(loaded.file, loaded.kind):
        return decide(strategy, panel)


def with_body(*lines: str) -> str:
    """A strategy whose signals() holds `lines`, the first of them on line 7."""
    body = "\n".join(f"        {line}" for line in lines)
    return f"""import numpy as np
from marketagent.signals import Signal
from marketagent.strategy import Strategy, param

class Mine(Strategy):
    def signals(self, panel, opinions):
{body}
"""


def test_a_file_in_the_home_is_a_strategy_by_its_name(home: Path) -> None:
    file = written(home, GOOD)
    loaded = load("mine", home)
    assert (loaded.name, loaded.file, loaded.summary) == ("mine", file, "Mine alone")
    assert loaded.hash == hashlib.sha256(file.read_bytes()).hexdigest()
    assert loaded.configured({"window": "7"}).params()["window"] == 7


def test_a_path_names_a_strategy_anywhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "else.py").write_text(GOOD)
    assert load(str(tmp_path / "else.py"), home).kind.__name__ == "Mine"
    monkeypatch.chdir(tmp_path)
    assert load("else.py", home).kind.__name__ == "Mine"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/else.py", home).kind.__name__ == "Mine"


def test_a_file_in_the_home_hides_a_built_in_one(home: Path) -> None:
    assert load("momentum", home).kind.__name__ == "Momentum"
    file = written(home, GOOD, name="momentum")
    assert load("momentum", home).kind.__name__ == "Mine"
    assert files(home)["momentum"] == file


def test_every_built_in_strategy_is_listed_and_files_with_an_underscore_are_not(home: Path) -> None:
    written(home, "raise RuntimeError", name="_helpers")
    assert list(files(home)) == ["buy_and_hold", "ensemble", "mean_reversion", "momentum", "sma_cross"]


def test_a_name_nobody_has_is_told_with_the_nearest(home: Path) -> None:
    with pytest.raises(
        UsageError, match=r"unknown strategy 'momentun'; did you mean momentum\? \(ma backtest --list\)"
    ):
        load("momentun", home)


@pytest.mark.parametrize("name", ["no/such/file.py", "nowhere.py", "~nobody-of-that-name/x.py"])
def test_a_path_to_nothing_is_told(home: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no strategy file"):
        load(name, home)


def test_a_path_that_cannot_be_read_is_told(home: Path) -> None:
    (home / "folder.py").mkdir()
    for name in (str(home / "folder.py"), "x/" * 3000 + "y.py"):
        with pytest.raises(UsageError, match="cannot be read: "):
            load(name, home)


def test_the_file_itself_is_run_and_not_a_stale_compiled_copy(home: Path) -> None:
    file = written(home, GOOD)
    stamp = file.stat()
    assert load("mine", home).configured({}).params()["window"] == 5
    file.write_text(GOOD.replace("param(5,", "param(9,"))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # same size, same second: what a .pyc is judged by
    assert load("mine", home).configured({}).params()["window"] == 9
    assert not list(file.parent.glob("__pycache__"))


def test_a_fresh_strategy_shares_nothing_with_the_others(home: Path) -> None:
    written(home, "CALLS = []\n" + GOOD.replace("        return", "        CALLS.append(1)\n        return"))
    loaded = load("mine", home)
    old = loaded.configured({"window": "7"})
    new = loaded.fresh(old.params())
    decide(old, random_market(1), {})
    assert new.params() == old.params()
    assert type(new) is not type(old)
    calls = [kind.signals.__globals__["CALLS"] for kind in (loaded.kind, type(new))]
    assert calls == [[1], []]


FAULTS = {
    "a syntax error": ("x = 1\ny = = 2\n", 2, "invalid syntax"),
    "an error at import": ("import numpy\n\nnumpy.nothing_of_that_name\n", 3, "AttributeError: "),
    "a missing module": ("\nimport no_such_module_anywhere\n", 2, "ModuleNotFoundError: "),
    "an exit at import": ("import sys\nsys.exit(0)\n", 2, "SystemExit: 0"),
    "no strategy": ("x = 1\n", 1, "holds 0 subclasses of Strategy; it must hold one"),
    "two strategies": (GOOD + "\nclass Other(Mine):\n    pass\n", 17, "holds 2 subclasses"),
    "no signals": ("from marketagent.strategy import Strategy\n\nclass Mine(Strategy):\n    pass\n", 3, "no signals()"),
    "signals that are no function": (
        "from marketagent.strategy import Strategy\nclass Mine(Strategy):\n    signals = 5\n",
        2,
        "not callable",
    ),
    "a parameter without a default": (
        "from marketagent.strategy import Strategy\nclass Mine(Strategy):\n    window: int\n",
        2,
        "Mine.window needs a default",
    ),
    "a default of the wrong kind": (
        "from marketagent.strategy import Strategy\nclass Mine(Strategy):\n    top_k = 2.5\n",
        2,
        "top_k is 2.5; it must be a whole number",
    ),
    "a default out of range": (
        "from marketagent.strategy import Strategy\nclass Mine(Strategy):\n    threshold = 5\n",
        2,
        "threshold is 5.0; it must lie in 0.0 .. 1.0",
    ),
    "a schedule of its own": (
        "from marketagent.strategy import Strategy\nclass Mine(Strategy):\n    rebalance = 'yearly'\n",
        2,
        "rebalance is 'yearly'; it must be one of bar, daily, weekly, monthly",
    ),
    "a check that raises": (
        "from marketagent.strategy import Strategy\nclass Mine(Strategy):\n    def check(self):\n        1 / 0\n",
        4,
        "ZeroDivisionError",
    ),
    "a warm-up that raises": (
        "from marketagent.strategy import Strategy\n\nclass Mine(Strategy):\n    @property\n"
        "    def warmup(self):\n        return self.nothing\n",
        6,
        "AttributeError",
    ),
    "a signal that raises": (with_body("x = 1", "raise KeyError('close')"), 8, "KeyError: 'close'"),
    "a signal that raises without a word": (with_body("raise OSError"), 7, "OSError"),
    "a signal that raises many lines": (with_body(r"raise ValueError('one\n  two')"), 7, "ValueError: one two"),
    "a signal that exits": (with_body("raise SystemExit"), 7, "SystemExit"),
    "an error further down": (with_body("x = 1", "return np.ones(2) + np.ones(3)"), 8, "ValueError: operands"),
    "a talib function nobody has": (
        with_body("from marketagent.indicators import sma", "return sma(panel.close, 0)"),
        8,
        "window is 0",
    ),
    "no dict": (with_body("return Signal(panel.close * 0)"), 6, "gave Signal; it must give a dict"),
    "an empty dict": (with_body("return {}"), 6, "it must give a dict of at least one Signal"),
    "an array for a signal": (with_body("return {'a': panel.close}"), 6, "gave ndarray for 'a'; it must be a Signal"),
    "a wrong shape": (with_body("return {'a': Signal(panel.close[1:] * 0)}"), 6, "signal 'a' of Mine is (59, 6)"),
    "a value out of range": (with_body("x = 1", "return {'a': Signal(panel.has_bar * 2.0)}"), 8, "outside [-1, 1]"),
    "an infinite value": (with_body("return {'a': Signal(panel.has_bar * np.inf)}"), 7, "outside [-1, 1]"),
    "a confidence out of range": (with_body("return {'a': Signal(panel.has_bar * 1.0, -0.1)}"), 7, "outside [0, 1]"),
    "a confidence of another shape": (with_body("return {'a': Signal(panel.has_bar, [0.5])}"), 7, "of one shape"),
    "a panel that is written to": (with_body("panel.close[:] = 0"), 7, "read-only"),
    "raw prices that are written to": (with_body("panel.raw.close[3, 1] = 0"), 7, "read-only"),
    "splits that are written to": (with_body("panel.split *= 2"), 7, "read-only"),
    "a weight below nothing": (
        with_body("return {'a': Signal(panel.has_bar)}").replace("    def", "    weights = {'a': -1}\n    def"),
        7,
        "the weight of signal 'a' of Mine is -1; it must be 0 or more",
    ),
    "weights of nothing": (
        with_body("return {'a': Signal(panel.has_bar)}").replace("    def", "    weights = {'a': 0}\n    def"),
        7,
        "all have the weight 0",
    ),
}


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_strategy_is_one_line_with_its_file_and_line(home: Path, panel: Panel, fault: str) -> None:
    text, line, words = FAULTS[fault]
    with pytest.raises(BadStrategy) as caught:
        decided(home, text, panel)
    said = str(caught.value)
    assert said.startswith(f"{home}/strategies/mine.py:{line}: ")
    assert words in said
    assert "\n" not in said


def test_a_file_that_is_no_text_is_one_line(home: Path) -> None:
    file = written(home, "")
    for data in (b"\xff\xfe\x00", b"x = '\xe9'\n", b"\x00"):
        file.write_bytes(data)
        with pytest.raises(BadStrategy) as caught:
            load("mine", home)
        assert str(caught.value).startswith(f"{file}:")
        assert "\n" not in str(caught.value)


def test_a_broken_import_of_the_file_is_blamed_where_it_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_mine.py").write_text("x = 1\ny = (\n")
    monkeypatch.syspath_prepend(tmp_path)
    written(home, "import beside_mine\n")
    with pytest.raises(BadStrategy, match=r"beside_mine\.py:2: "):
        load("mine", home)


def test_what_a_strategy_prints_stays_off_stdout(home: Path, panel: Panel, capsys: pytest.CaptureFixture[str]) -> None:
    text = with_body("print('in signals')", "return {'a': Signal(panel.has_bar)}") + "\nprint('at import')\n"
    records = io.StringIO()
    with redirect_stdout(records):
        decided(home, text, panel)
    assert records.getvalue() == ""
    assert capsys.readouterr().err.split("\n")[:2] == ["at import", "in signals"]


def test_postponed_annotations_work(home: Path, panel: Panel) -> None:
    text = "from __future__ import annotations\nfrom typing import ClassVar\n" + GOOD.replace(
        "    window", "    weights: ClassVar[dict[str, float]] = {'mine': 2.0}\n    band = 1\n    window"
    )
    decisions = decided(home, text, panel)
    assert decisions.strategy.weights == {"mine": 2.0}
    assert decisions.strategy.params()["band"] == 1.0


def test_a_strategy_can_use_pandas_and_write_to_its_own_table(home: Path, panel: Panel) -> None:
    text = with_body(
        "table = panel.frame('close')",
        "rising = table > table.rolling(3, min_periods=3).mean()",
        "table.iloc[:, :] = 0.0",
        "return {'a': Signal(rising.to_numpy() * 1.0)}",
    )
    before = panel.raw.close.copy()
    decisions = decided(home, text, panel)
    assert set(np.unique(decisions.score[panel.has_bar])) == {0.0, 1.0}
    np.testing.assert_array_equal(decisions.panel.raw.close, before)


def test_the_same_class_under_two_names_is_one_strategy(home: Path) -> None:
    written(home, GOOD + "\nAlso = Mine\n")
    assert load("mine", home).kind.__name__ == "Mine"


def test_an_interrupt_is_nobodys_fault(home: Path) -> None:
    written(home, "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load("mine", home)


def test_an_unknown_or_wrong_value_of_a_parameter_names_no_line_of_the_file(home: Path) -> None:
    written(home, GOOD)
    loaded = load("mine", home)
    with pytest.raises(UsageError, match=r"^Mine has no parameter 'windw'; did you mean window\?$"):
        loaded.configured({"windw": "3"})
    with pytest.raises(UsageError, match=r"^window is 1; it must lie in 2 \.\. 50$"):
        loaded.configured({"window": "1"})
