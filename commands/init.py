"""``ma init``: make the home with its databases, journal and calendar.

Not needed before the first ``ma fetch``, which does the same when there is no home yet.
"""

from marketagent import options, pipe, setup, show
from marketagent.config import Settings
from marketagent.records import Row


def run(format: options.Format = "auto") -> int:
    """Make what is missing in $MA_HOME; nothing that exists is changed.

    Example: MA_HOME=~/market ma init
    """
    settings = Settings.load()
    made = setup.ready(settings.home, settings.now, timeout_s=settings.busy_timeout_s, again=True)
    if not made:
        show.say(f"{settings.home} is complete; nothing to do")
    with pipe.sealed("init", format, run=options.new_run(settings), at=settings.now) as out:
        for name in made:
            out.write(Row(values={"made": name}))
    return out.exit_code
