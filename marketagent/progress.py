"""A progress bar on stderr for who looks at it; nothing anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_AFTER_S = 0.5  # what is over sooner needs no bar


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """A function that is told (done, total), or None where stderr is no terminal; the bar is gone at the end."""
    if not sys.stderr.isatty():
        yield None
        return
    begun = time.monotonic()
    with ExitStack() as stack:
        shown: list[Progress] = []

        def tell(done: int, total: int) -> None:
            if not shown and time.monotonic() - begun > _AFTER_S:
                shown.append(stack.enter_context(_progress(label)))
                shown[0].add_task(label, total=total)
            for progress in shown:
                progress.update(progress.task_ids[0], completed=done, total=total)

        yield tell


def behind(tell: Callable[[int, int], None] | None, before: int, total: int) -> Callable[[int], None] | None:
    """`tell` for who knows only how much of its own is done, with `before` done before it, of `total`."""
    return None if tell is None else lambda done: tell(before + done, total)


def _progress(label: str) -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
