"""A process that has everything imported and runs ``ma trade`` in children of its own: hundreds of crashes in seconds.

python forks.py HOME        a line on stdin -> a line on stdout, the way the child ended (its wait status)

step K FILL FILE    paper.trade with SIGKILL before the journal's K-th statement
time S FILL FILE    the whole command, killed by its parent after S seconds
size B FILL FILE    the whole command, where no file may grow beyond B bytes
"""

import os
import resource
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from accounts import NOW
from marketagent.commands import trade as _command  # noqa: F401 - imported before the fork, as all it needs

from marketagent import cli, costs, paper, pipe, trading
from marketagent.journal import Journal

COSTS = costs.parse("ibkr-fixed")
MARKETS = {}


def once(home, symbols, **how):
    """The prices, read from the store once: they are the same for every crash."""
    assert set(symbols) <= set(MARKETS[home].panel.symbols)
    return MARKETS[home]


def trade(home, fill, file):
    with file.open("rb") as stream:
        sealed = pipe.read(stream)
    paper.trade(home, sealed, trading.Terms("paper", 100_000.0, COSTS, fill=fill), NOW, timeout_s=10)


def killed_at(step, home, fill, file):
    plain, count = Journal.execute, 0

    def execute(self, sql, values=()):
        nonlocal count
        if count == 0:
            plain(self, "PRAGMA synchronous = OFF")  # what a process wrote outlives it; only a power cut needs the disk
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, sql, values)

    Journal.execute = execute
    paper.read_market, paper.runs.copy_orders = once, lambda *args, **more: None
    trade(home, fill, file)


def commanded(fill, file):
    sys.stdin = file.open(encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    cli.main(["trade", "--fill", fill, "--max-age", "inf"])


def child(home, what, amount, fill, file):
    if what == "step":
        killed_at(int(amount), home, fill, file)
        return
    if what == "size":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(amount), int(amount)))
    commanded(fill, file)


def main():
    home = Path(sys.argv[1])
    os.environ["MA_HOME"] = str(home)
    read = paper.read_market
    for line in sys.stdin:
        what, amount, fill, name = line.split()
        if what == "learn":
            MARKETS[home] = read(home, fill.split(","), timeout_s=10)
            with Path(name).open("rb") as stream:
                pipe.read(stream)  # builds the checks of each kind of record, which takes longer than a trade
            print("learned", flush=True)
            continue
        assert threading.active_count() == 1
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                child(home, what, amount, fill, Path(name))
                code = 0
            except SystemExit as left:
                code = int(left.code or 0)
            except BaseException:  # of our own making: a child must never come back into the loop
                traceback.print_exc()
            finally:
                os._exit(code)
        if what == "time":
            time.sleep(float(amount))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)


if __name__ == "__main__":
    main()
