"""The errors a user can act on, and the exit code each one ends a command with.

``cli`` prints such an error as one line and exits with its code. A caller's mistake is a plain
``ValueError`` or ``TypeError`` and may show a traceback.

    MarketAgentError        1  failed
    ├─ UsageError           2  the command line asks for something that does not exist
    ├─ Incomplete           3  the input broke off; what came of it was done
    ├─ Refused              4  an input or an order was refused; nothing was done
    │  └─ Stopped              and so would be what comes next
    ├─ BadData             65  a file or a stream cannot be understood; nothing of it was stored
    ├─ NoData              66  nothing stored yet that answers
    ├─ Unavailable         69  a provider does not answer
    ├─ DiskError           74  the disk is full or fails
    ├─ Busy                75  somebody else holds it; try again
    ├─ NotPermitted        77  a key or a permission is missing
    └─ BadConfig           78  the configuration is wrong
"""

from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Every exit code of ``ma``; README has the same table."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    REFUSED = 4
    BAD_DATA = 65
    NO_DATA = 66
    UNAVAILABLE = 69
    DISK = 74
    BUSY = 75
    NOT_PERMITTED = 77
    BAD_CONFIG = 78
    INTERRUPTED = 130
    PIPE = 141
    TERMINATED = 143


class MarketAgentError(Exception):
    """Something went wrong that a user can act on."""

    exit_code = Exit.FAILED


class UsageError(MarketAgentError):
    exit_code = Exit.USAGE


class Refused(MarketAgentError):
    exit_code = Exit.REFUSED


class Stopped(Refused):
    """Refused for a reason that will not pass by itself: whoever trades a series of streams tries none after it."""


class Incomplete(MarketAgentError):
    """The input broke off: what came before it was done, what should have come after it is not known."""

    exit_code = Exit.PARTIAL


class BadData(MarketAgentError):
    exit_code = Exit.BAD_DATA


class NoData(MarketAgentError):
    exit_code = Exit.NO_DATA


class Unavailable(MarketAgentError):
    exit_code = Exit.UNAVAILABLE


class DiskError(MarketAgentError):
    exit_code = Exit.DISK


class Busy(MarketAgentError):
    exit_code = Exit.BUSY


class NotPermitted(MarketAgentError):
    exit_code = Exit.NOT_PERMITTED


class BadConfig(MarketAgentError):
    exit_code = Exit.BAD_CONFIG


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean momentum?"``, or nothing when no known word is near.

    >>> did_you_mean("momentun", ["momentum", "ensemble"])
    '; did you mean momentum?'
    >>> did_you_mean("aaple", ["AAPL", "IBM"])
    '; did you mean AAPL?'
    >>> did_you_mean("zzz", ["momentum"])
    ''
    """
    from difflib import get_close_matches

    spelled = {each.lower(): each for each in known}
    near = get_close_matches(word.lower(), list(spelled), n=1, cutoff=0.6)
    return f"; did you mean {spelled[near[0]]}?" if near else ""
