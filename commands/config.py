"""``ma config``: show the effective settings and where each comes from."""

from marketagent import options, pipe
from marketagent.config import Settings, effective
from marketagent.records import Setting


def run(format: options.Format = "auto") -> int:
    """Show every setting with its value and origin; a key is shown as (set), never its text.

    Example: ma config --format ndjson
    """
    settings = Settings.load()
    with pipe.sealed("config", format, run=options.new_run(settings), at=settings.now) as out:
        for name, value, origin in effective(settings):
            out.write(Setting(name=name, value=value, origin=origin))
    return out.exit_code
