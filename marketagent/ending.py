"""How ``ma`` ends when it does not end well: any exception in, one line on stderr and an exit code out."""

import errno
import os
import traceback
from typing import Any

import typer

from marketagent import show
from marketagent.errors import DiskError, Exit, MarketAgentError, did_you_mean
from marketagent.process import ReaderGone, Terminated, flush, reader_gone, signalled
from marketagent.redact import redacted

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG}
# What a wrong command line raises. BadParameter's grandparent: some versions of Typer bring their own Click, others
# import it, and only BadParameter has a public name in both.
_ClickError: Any = typer.BadParameter.__mro__[2]


def told(error: BaseException) -> int:
    """Say what `error` means to a person, if anything, and return the exit code."""
    error = signalled(_cause(error))
    if os.environ.get("MA_DEBUG") == "1" and not isinstance(error, SystemExit | typer.Exit | ReaderGone):
        show.tell(redacted("".join(traceback.format_exception(error))))
    match error:
        case ReaderGone():
            return Exit.PIPE
        case typer.Exit():
            return error.exit_code
        case SystemExit():
            return _left(error)
        case KeyboardInterrupt():
            return _said("interrupted", Exit.INTERRUPTED)
        case Terminated():
            return _said("terminated", Exit.TERMINATED)
        case typer.Abort():
            return _said("aborted", Exit.FAILED)
        case MarketAgentError():
            return _said(error, error.exit_code)
        case OSError():
            return _system(error)
    if isinstance(error, _ClickError):
        return _usage(error)
    return _internal(error)


def _cause(error: BaseException) -> BaseException:
    """The exception a group is about: a signal before anything else, then what a user can act on."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [_cause(inner) for inner in error.exceptions]
    for wanted in (Terminated, KeyboardInterrupt, MarketAgentError):
        for leaf in leaves:
            if isinstance(leaf, wanted):
                return leaf
    return leaves[0]


def _said(text: object, code: int) -> int:
    show.say(text)
    return code


def _left(error: SystemExit) -> int:
    if isinstance(error.__context__, BrokenPipeError):
        return Exit.PIPE  # rich exits with 1 when the reader of a help page has gone
    if error.code is None or isinstance(error.code, int):
        return error.code or Exit.DONE
    return _said(error.code, Exit.FAILED)


def _system(error: OSError) -> int:
    if isinstance(error, BrokenPipeError) and reader_gone():
        return Exit.PIPE
    try:
        flush()  # what could not be written to stdout is still there and fails again
    except (ReaderGone, DiskError) as found:
        return told(found)
    if error.errno in _DISK:
        where = f"{error.filename}: " if error.filename else "cannot write: "
        return _said(f"{where}{error.strerror}", Exit.DISK)
    return _internal(error)


def _usage(error: Any) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "ma"
    if type(error).__name__ == "NoArgsIsHelpError":
        return Exit.USAGE  # the help is out already
    return _said(f"{_advice(error)} ({path} --help)", error.exit_code)


def _advice(error: Any) -> str:
    option = getattr(error, "option_name", None)
    if option and hasattr(error, "possibilities"):
        known = [name for param in error.ctx.command.get_params(error.ctx) for name in param.opts if name[:2] == "--"]
        return f"no such option: {option}{did_you_mean(option, known)}"
    text = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")  # pydantic's words
    return text[:1].lower() + text[1:]


def _internal(error: BaseException) -> int:
    text = f"internal error: {type(error).__name__}: {error}"
    return _said(f"{show.one_line(text)} (MA_DEBUG=1 shows the traceback)", Exit.FAILED)
