"""What is compiled is compiled again when anything it rests on changes: old machine code under new rules trades money."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import marketagent
from marketagent.compiled import sources

RUN = "from marketagent import probe; print(probe.run(1.0), sum(probe.run.stats.cache_hits.values()))"


def ran(folder: Path) -> tuple[float, int]:
    """What the probe gives, and how often it came from the disk."""
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "kept"), "PATH": "/usr/bin:/bin"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    value, hits = done.stdout.split()
    return float(value), int(hits)


def test_a_change_in_a_file_that_is_called_or_read_compiles_again(tmp_path: Path) -> None:
    package = tmp_path / "marketagent"
    package.mkdir()
    for name in ("__init__", "compiled"):
        shutil.copy(Path(marketagent.__file__).parent / f"{name}.py", package)
    (package / "rule.py").write_text("FEE = 2.0\n", encoding="utf-8")
    called = "from marketagent.compiled import compiled\nfrom marketagent.rule import FEE\n"
    (package / "called.py").write_text(f"{called}@compiled\ndef less(x):\n    return x - FEE\n", encoding="utf-8")
    probe = "from marketagent.called import less\nfrom marketagent.compiled import compiled\n"
    (package / "probe.py").write_text(f"{probe}@compiled\ndef run(x):\n    return less(x)\n", encoding="utf-8")
    assert ran(tmp_path) == (-1.0, 0)
    assert ran(tmp_path) == (-1.0, 1)  # kept
    (package / "rule.py").write_text("FEE = 3.0\n", encoding="utf-8")
    assert ran(tmp_path) == (-2.0, 0)
    (package / "called.py").write_text(f"{called}@compiled\ndef less(x):\n    return x - FEE * 2\n", encoding="utf-8")
    assert ran(tmp_path) == (-5.0, 0)
    assert ran(tmp_path) == (-5.0, 1)


def test_what_a_kernel_rests_on_is_found_through_all_its_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sources("marketagent.kernel") != sources("marketagent.cells")
    package = tmp_path / "planted"
    (package / "b").mkdir(parents=True)
    texts = {
        "__init__.py": "",
        "b/__init__.py": "",
        "a.py": "from planted.b.c import x\nfrom planted import (\n    d,\n    e,\n)\n",
        "b/c.py": "x = 1\n",
        "d.py": "from planted.f import y\n",
        "e.py": "",
        "f.py": "y = 1\n",
        "aside.py": "",
    }
    for name, text in texts.items():
        (package / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    seen = {sources.__wrapped__("planted.a")}
    for name in ("a.py", "b/c.py", "d.py", "e.py", "f.py", "aside.py"):
        with (package / name).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        seen.add(sources.__wrapped__("planted.a"))
    assert len(seen) == 6  # all but what nobody imports
