"""What a client's environment says so that it asks the sandbox and lives at its time; every key in it is made up."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from marketagent.clock import Clock

KEY_ID, SECRET = "PKSANDBOX00000000001", "sandbox-secret"  # of the sandbox's Alpaca
POLYGON_KEY = "sandbox-advanced"  # no plain word either: what is a key is starred out wherever `ma` says something


def environ(url: str, clock: Clock, *, home: Path | None = None, config: Path | None = None) -> dict[str, str]:
    """Every variable to set for a sandbox at `url`, with `home` as the rehearsal's home and the user's own `config`."""
    stream = url.replace("http://", "ws://", 1)
    found = {
        "MA_CLOCK": clock.text,
        "POLYGON_BASE_URL": url,
        "POLYGON_STREAM_URL": stream,
        "POLYGON_API_KEY": POLYGON_KEY,
        "POLYGON_CALLS_PER_MINUTE": "0",
        "APCA_API_BASE_URL": url,
        "APCA_API_DATA_URL": url,
        "APCA_API_STREAM_URL": stream,
        "APCA_API_KEY_ID": KEY_ID,
        "APCA_API_SECRET_KEY": SECRET,
        "ALPACA_CALLS_PER_MINUTE": "0",
        "BULLAWARE_BASE_URL": url,
    }
    homes = {"MA_HOME": home, "MA_CONFIG": config}
    return {name: str(path) for name, path in homes.items() if path is not None} | found


def exports(values: Mapping[str, str]) -> str:
    """The same as lines for a POSIX shell.

    >>> exports({"MA_HOME": "/tmp/it's here"})
    'export MA_HOME=\\'/tmp/it\\'"\\'"\\'s here\\'\\n'
    """
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in values.items())
