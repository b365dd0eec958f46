"""What the tests of pipes share: records small enough to check by hand, and streams of them as bytes."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marketagent import pipe
from marketagent.records import Decision, Opinion

ROOT = Path(__file__).parent.parent
AT = datetime(2026, 11, 20, 21, 5, tzinfo=UTC)
MA = [sys.executable, "-m", "marketagent"]


def decision(symbol: str = "AAPL", **changes: Any) -> Decision:
    values: dict[str, Any] = {
        "symbol": symbol,
        "session": "2026-11-20",
        "action": "buy",
        "score": 0.41,
        "confidence": 0.62,
        "weight": 0.05,
        "close": 150.25,
        "strategy": "ensemble",
        "strategy_hash": "ab12",
        "params": {"window": 20},
        "band": 0.1,
        "timeframe": "1d",
        "source": "sample",
        "reasoning": "momentum 0.5",
        "signals": {"momentum": Opinion(value=0.5, confidence=0.6, weight=1.0)},
    }
    return Decision(**(values | changes))


def stdout() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


def written(
    *records: Any, cmd: str = "score", format: Any = "ndjson", then: Callable[..., None] | None = None
) -> bytes:
    """The bytes of a stream of `records`; `then` is called with the open stream at last."""
    text = stdout()
    with pipe.sealed(cmd, format, run="run-1", at=AT, stdout=text) as out:
        for record in records:
            out.write(record)
        if then:
            then(out)
    return text.buffer.getvalue()


def environment(home: Path, **more: str) -> dict[str, str]:
    """A clean environment with a home of its own; the packages come from this checkout."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "SYSTEMROOT"}}
    return kept | {"MA_HOME": str(home), "PYTHONPATH": str(ROOT), **more}


def shell(script: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in bash with ``$PY`` as this Python and ``$MA`` as the command."""
    env = environment(home, PY=sys.executable, MA=f"{sys.executable} -m marketagent", **more)
    return subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False)
