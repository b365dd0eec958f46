"""The paper account against anything that can happen in any order: a state machine that looks for a broken promise.

I1 one order a decision; I2 no order without an intent before it; I4 a run that was killed and run again ends where
an undisturbed one ends, with nothing left in between; I6 what was sent before orders nothing. I1, I2 and the sums of
cash and shares are ``accounts.assert_sound``, asked after every step.
"""

import os
import random
import sqlite3
from dataclasses import replace

import pytest
from accounts import NOW, assert_sound, ledger, market_of, memory_journal, random_panel
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from streams import decision

from marketagent import costs, trading
from marketagent.errors import Refused
from marketagent.journal import Journal
from marketagent.panel import Panel, Raw

WIDTH, LENGTH = 3, 40
COSTS = costs.parse("ibkr-fixed", slippage_bps=5)
PANELS = [random_panel(seed, WIDTH + 1, LENGTH) for seed in range(8)]
WEIGHTS = st.lists(st.sampled_from([None, 0.0, 0.1, 0.3, 0.6]), min_size=WIDTH + 1, max_size=WIDTH + 1)


class Killed(BaseException):
    """The process is gone: no handler of ours may go on after it."""


class Mortal(Journal):
    """A journal whose process dies before a statement."""

    left: int | None = None

    def execute(self, sql, values=()):
        if self.left is not None:
            self.left -= 1
            if self.left < 0 and sql != "ROLLBACK":
                raise Killed
        return super().execute(sql, values)

    def copy(self):
        twin = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.backup(twin)
        twin.row_factory = sqlite3.Row
        return Mortal(twin, self._path, 1.0)


class PaperAccount(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.book, self.sent, self.runs = memory_journal(Mortal), [], 0

    @initialize(number=st.integers(0, len(PANELS) - 1), fractional=st.booleans())
    def open(self, number, fractional):
        panel = PANELS[number]
        copied = Raw(**{name: getattr(panel.raw, name).copy() for name in Raw.__dataclass_fields__})
        self.panel = Panel(panel.sessions, panel.symbols, copied, panel.split, panel.dividend, panel.sources)
        self.terms = trading.Terms("paper", 50_000.0, COSTS, fractional)
        self.today = 2

    def stream(self, strategy, weights, ago=0):
        t = max(self.today - ago, 0)
        self.runs += 1
        close = self.panel.raw.close[t]
        records = [
            decision(
                symbol,
                session=str(self.panel.sessions[t]),
                strategy=strategy,
                weight=weight,
                close=float(price),
                band=0.0,
            )
            for symbol, weight, price, there in zip(
                self.panel.symbols, weights, close, self.panel.has_bar[t], strict=True
            )
            if there
        ]
        return trading.one_session(f"run-{self.runs}", records, allow_short=False)

    def trade(self, book, stream, fill):
        trading.refuse_done(book, stream.run, "paper")
        terms = replace(self.terms, fill=fill)
        return trading.trade(book, stream, market_of(self.panel.head(self.today + 1)), terms, NOW)

    @rule(strategy=st.sampled_from("ab"), weights=WEIGHTS, fill=st.sampled_from(trading.FILLS))
    def score_and_trade(self, strategy, weights, fill):
        stream = self.stream(strategy, weights)
        if stream is None:
            return
        self.sent.append((stream, fill))
        before = {(row["strategy"], row["session"], row["symbol"]) for row in self.book.rows("SELECT * FROM decided")}
        orders = set(self.cids())
        self.trade(self.book, stream, fill)
        new = self.book.rows("SELECT * FROM orders WHERE run = ?", (stream.run,))
        assert {row["cid"] for row in new} == set(self.cids()) - orders
        # I6: scored again, at whatever sizes, is decided already.
        assert before.isdisjoint((row["strategy"], row["session"], row["symbol"]) for row in new)
        assert not self.book.rows("SELECT 1 FROM orders WHERE state = 'PENDING'")

    @rule(strategy=st.sampled_from("ab"), weights=WEIGHTS, fill=st.sampled_from(trading.FILLS),
          kills=st.lists(st.integers(0, 60), min_size=1, max_size=3))  # fmt: skip
    def trade_killed_and_run_again(self, strategy, weights, fill, kills):
        stream = self.stream(strategy, weights)
        if stream is None:
            return
        self.sent.append((stream, fill))
        undisturbed = self.book.copy()
        self.trade(undisturbed, stream, fill)
        for step in kills:
            if self.attempt(stream, fill, step):
                break
            assert_sound(self.book)
        else:
            self.trade(self.book, stream, fill)
        assert ledger(self.book) == ledger(undisturbed)  # I4

    @rule(strategy=st.sampled_from("ab"), weights=WEIGHTS, step=st.integers(0, 40), fill=st.sampled_from(trading.FILLS))
    def trade_killed_and_left(self, strategy, weights, step, fill):
        stream = self.stream(strategy, weights)
        if stream is not None:
            self.sent.append((stream, fill))
            self.attempt(stream, fill, step)

    def attempt(self, stream, fill, step):
        self.book.left = step
        try:
            self.trade(self.book, stream, fill)
        except Killed:
            return False
        finally:
            self.book.left = None
        return True

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def send_again(self, data):
        stream, fill = data.draw(st.sampled_from(self.sent))
        state = self.book.rows("SELECT state FROM streams WHERE run = ?", (stream.run,))
        before, cids = ledger(self.book), self.cids()
        try:
            self.trade(self.book, stream, fill)
        except Refused:
            assert ledger(self.book) == before
            return
        assert not (state and state[0]["state"] == "done")
        if state:
            assert self.cids() == cids  # I6: its intents were written by the run that was killed

    @rule(strategy=st.sampled_from("ab"), weights=WEIGHTS, ago=st.integers(1, 5))
    def an_old_session(self, strategy, weights, ago):
        stream = self.stream(strategy, weights, ago)
        settled = self.book.rows("SELECT settled_through FROM accounts")
        if stream is None or not settled or settled[0][0] <= stream.session.isoformat():
            return
        before = ledger(self.book)
        done = trading.read_decided(self.book, "paper", stream)
        if {each.symbol for each in stream.decisions} - done:
            with pytest.raises(Refused):
                self.trade(self.book, stream, "next-open")
            assert ledger(self.book) == before

    @rule(days=st.integers(1, 4))
    def new_sessions(self, days):
        self.today = min(self.today + days, LENGTH - 1)

    @rule(n=st.integers(0, WIDTH), ago=st.integers(0, 4), factor=st.sampled_from([0.5, 0.97, 1.04, 2.0]))
    def a_price_is_corrected(self, n, ago, factor):
        for array in (self.panel.raw.open, self.panel.raw.close):
            array[max(self.today - ago, 0), n] *= factor

    def cids(self):
        return [row["cid"] for row in self.book.rows("SELECT cid FROM orders ORDER BY cid")]

    @invariant()
    def the_ledger_is_sound(self):
        assert_sound(self.book)
        cash = self.book.rows("SELECT cash FROM accounts")
        assert not cash or cash[0]["cash"] >= -1e-9  # long only: never more than there is


def explore(examples, steps):
    seed = int(os.environ.get("MA_SEED", random.randrange(2**32)))
    print(f"MA_SEED={seed}")
    from hypothesis import seed as seeded

    run_state_machine_as_test(
        seeded(seed)(PaperAccount),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )


def test_no_order_of_events_breaks_a_promise_of_the_account():
    explore(300, 30)


@pytest.mark.soak
def test_no_order_of_events_breaks_a_promise_in_minutes_of_trying():
    explore(5_000, 60)
