"""From the store to decisions: what ``ma score`` and ``ma backtest`` do before they part ways."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from marketagent import critic, luck, luckiest
from marketagent.backtest import Backtest, Terms
from marketagent.catalog import Loaded, blame
from marketagent.decision import Decisions, decide
from marketagent.ensemble import ACTIONS
from marketagent.errors import NoData
from marketagent.luckiest import Blocks, Family
from marketagent.metrics import SESSIONS
from marketagent.orders import FRACTIONAL
from marketagent.panel import Array, Panel
from marketagent.records import AccountSize, Decision, Finding, Luck, Opinion
from marketagent.records import Backtest as BacktestRecord
from marketagent.store.market import data_hash, read_panel, read_quarantined, read_session_before
from marketagent.store.opinions import contaminated, read_opinions
from marketagent.store.trials import Trial
from marketagent.strategy import Opinions, Strategy
from marketagent.symbols import checked
from marketagent.timeframes import DAY, bar_text, bars_a_session, session_of

SEED = 20_140_612  # of the bootstrap: a run that is repeated says the same


@dataclass(frozen=True)
class View:
    """Which facts to decide on: sessions up to `last`, one source or the best, what was known at an instant, and which
    bars, of those that have closed by `now`."""

    last: date | None = None
    source: str | None = None
    known_at: datetime | None = None
    timeframe: str = DAY
    now: datetime | None = None

    def panel(self, home: Path, symbols: Sequence[str] | None, *, timeout_s: float) -> Panel:
        """The panel of `symbols`, all stored if None; raises NoData without a bar."""
        return read_panel(
            home,
            symbols,
            last=self.last,
            source=self.source,
            known_at=self.known_at,
            timeframe=self.timeframe,
            now=self.now,
            timeout_s=timeout_s,
        )


def decided(
    home: Path, loaded: Loaded, strategy: Strategy, symbols: Sequence[str] | None, view: View, *, timeout_s: float
) -> Decisions:
    """The decisions of `strategy` over all sessions of `view`, from each symbol's first stored bar on."""
    panel = view.panel(home, symbols, timeout_s=timeout_s)
    return decided_on(home, loaded, strategy, panel, view, timeout_s=timeout_s)


def facts(home: Path, symbols: Sequence[str] | None, view: View, *, timeout_s: float) -> tuple[Panel, Opinions]:
    """What a strategy is given: the panel of `view` and the stored opinions of its symbols."""
    panel = view.panel(home, symbols, timeout_s=timeout_s)
    return panel, read_opinions(home, panel, known_at=view.known_at, timeout_s=timeout_s)


def decided_on(
    home: Path, loaded: Loaded, strategy: Strategy, panel: Panel, view: View, *, timeout_s: float
) -> Decisions:
    """The decisions of `strategy` on `panel`, with the stored opinions of its symbols."""
    opinions = read_opinions(home, panel, known_at=view.known_at, timeout_s=timeout_s)
    with blame(loaded.file, loaded.kind):
        return decide(strategy, panel, opinions)


def require_session(home: Path, panel: Panel, asked: date | None, *, timeout_s: float) -> None:
    """Raise NoData when the panel does not end on the session `asked` for."""
    last = panel.days[-1].astype(date)
    if asked is None or last == asked:
        return
    session = read_session_before(home, asked, timeout_s=timeout_s)
    if session != asked:
        raise NoData(f"{asked} is not a trading session; the last one before it is {session}")
    raise NoData(f"no bars are stored for {asked}; the last session stored before it is {last}")


def unfit(home: Path, panel: Panel, warmup: int, view: View, *, timeout_s: float) -> dict[str, str]:
    """Symbols that must not be decided on at the panel's last row, each with the reason.

    Those without a bar on its session, or with a refused row among the bars the strategy looks at. One that is too
    young, or that did not trade in this very minute, is decided on like in the backtest: it holds.
    """
    bad = read_quarantined(home, panel, known_at=view.known_at, timeout_s=timeout_s)
    reasons: dict[str, str] = {}
    for n, symbol in enumerate(panel.symbols):
        rows = np.flatnonzero(panel.has_bar[:, n])
        needed = int(rows[max(0, len(rows) - max(warmup, 1))])  # the row of the oldest bar the strategy looks at
        refused = {t: reason for t, reason in bad.get(symbol, {}).items() if t >= needed}
        if refused:
            t = max(refused)
            reasons[symbol] = (
                f"its row of {bar_text(panel.sessions[t].astype(date))} was refused, within the {warmup} bars the strategy needs:"
                f" {refused[t]} (ma sql 'from quarantine')"
            )
        elif panel.days[rows[-1]] != panel.days[-1]:
            how = "" if panel.timeframe == DAY else f" --timeframe {panel.timeframe}"
            last, its = panel.days[-1], panel.days[rows[-1]]
            reasons[symbol] = f"no bar on {last}; its last is {its}; run: ma fetch {symbol}{how}"
    return reasons


def records(
    decisions: Decisions, loaded: Loaded, params: Mapping[str, Any], unfit: Collection[str] = ()
) -> Iterator[Decision]:
    """The last row of `decisions`, a record a symbol but the `unfit` ones.

    Those were decided on, too, with all others: a rank among symbols must be the one the backtest has.
    """
    panel, strategy = decisions.panel, decisions.strategy
    t = len(panel.sessions) - 1
    bar = panel.sessions[t].astype(date)
    for n, symbol in enumerate(panel.symbols):
        if symbol in unfit:
            continue
        yield Decision(
            symbol=symbol,
            session=session_of(bar).isoformat(),
            action=ACTIONS[int(decisions.action[t, n])],
            score=_number(decisions.score[t, n]),
            confidence=float(decisions.confidence[t, n]),
            weight=_number(decisions.targets[t, n]),
            close=_number(panel.raw.close[t, n]),
            strategy=loaded.name,
            strategy_hash=loaded.hash,
            params=dict(params),
            band=strategy.band,
            timeframe=panel.timeframe,
            source=panel.sources[n],
            reasoning=decisions.reasoning(t, n),
            signals={
                name: Opinion(
                    value=_number(signal.value[t, n]),
                    confidence=_number(signal.confidence[t, n]),
                    weight=strategy.weights.get(name, 1.0),
                )
                for name, signal in decisions.signals.items()
            },
            ts=None if panel.timeframe == DAY else bar_text(bar),
        )


def start_row(panel: Panel, first: date | None) -> int:
    """The first row that decides: the one of session `first`, or the next after it; raises NoData if there is none."""
    if first is None:
        return 0
    row = int(np.searchsorted(panel.sessions, np.datetime64(first)))
    if row >= len(panel.sessions):
        raise NoData(f"no bars are stored from {first} on; the last session looked at is {panel.days[-1]}")
    return row


@dataclass(frozen=True)
class Benchmark:
    """What is compared with: the panel of one symbol."""

    symbol: str
    panel: Panel

    def close_on(self, panel: Panel, start: int) -> Array:
        """(T,) its adjusted closes on the rows of `panel`; raises NoData where it has none from row `start` on."""
        close = np.full(len(panel.sessions), np.nan)
        _, here, there = np.intersect1d(panel.sessions, self.panel.sessions, return_indices=True)
        close[here] = self.panel.close[there, 0]
        if not np.isfinite(close[start:]).any():
            raise NoData(
                f"benchmark {self.symbol} has no bar between {panel.days[start]} and {panel.days[-1]};"
                f" run: ma fetch {self.symbol} --from {panel.days[start]}"
            )
        return close


def read_benchmark(home: Path, symbol: str | None, view: View, *, timeout_s: float) -> Benchmark | None:
    """All that is stored of `symbol`, None without one."""
    if symbol is None:
        return None
    return Benchmark(symbol, replace(view, source=None).panel(home, [checked(symbol)], timeout_s=timeout_s))


def backtest_record(
    run: str,
    loaded: Loaded,
    result: Backtest,
    terms: Terms,
    benchmark: str | None,
    *,
    worth: Luck | None = None,
    findings: Sequence[Finding] = (),
) -> BacktestRecord:
    """What is printed and kept of a backtest."""
    decisions, simulation, costs = result.decisions, result.simulation, terms.costs
    days, timeframe = simulation.sessions.astype("datetime64[D]"), decisions.panel.timeframe
    return BacktestRecord(
        run=run,
        strategy=loaded.name,
        strategy_hash=loaded.hash,
        params=decisions.strategy.params(),
        symbols=len(decisions.panel.symbols),
        first=str(days[0]),
        last=str(days[-1]),
        sessions=len(np.unique(days)),
        cash=terms.cash,
        equity=float(simulation.equity[-1]),
        costs=costs.name,
        slippage_bps=costs.slippage_bps,
        fill=terms.fill,
        fractional=terms.steps == FRACTIONAL,
        data_hash=data_hash(decisions.panel),
        benchmark=benchmark,
        metrics=result.metrics,
        notes=list(result.notes),
        timeframe=timeframe,
        bars=None if timeframe == DAY else len(days),
        slippage=costs.slippage,
        borrow_rate=costs.borrow_rate,
        margin_rate=costs.margin_rate,
        capacity=[AccountSize(**asdict(size)) for size in result.sizes],
        luck=worth,
        findings=list(findings),
    )


def trial_of(run: str, loaded: Loaded, result: Backtest) -> Trial:
    """The run as the ledger of trials counts it."""
    days, panel = result.simulation.sessions.astype("datetime64[D]"), result.decisions.panel
    return Trial(
        run=run,
        strategy=loaded.name,
        strategy_hash=loaded.hash,
        params=result.decisions.strategy.params(),
        symbols=panel.symbols,
        timeframe=panel.timeframe,
        first=str(days[0]),
        last=str(days[-1]),
        moments=luck.moments(result.returns),
    )


def reached(result: Backtest, own: Blocks) -> Array:
    """What the run, whose returns are `own` block by block, reaches in the worlds of ``luckiest``."""
    days = result.simulation.sessions.astype("datetime64[D]")
    return luckiest.reached(own.sums[None], own.counts, luckiest.shocks(days, luckiest.edges(days)))


def blocks_of(result: Backtest) -> Blocks:
    return luckiest.blocks(result.returns, luckiest.edges(result.simulation.sessions.astype("datetime64[D]")))


def intervals(result: Backtest, samples: int) -> luck.Intervals | None:
    """Of the Sharpe ratio and the CAGR, from so many bootstrap samples: from the same returns always the same."""
    a_year = SESSIONS * bars_a_session(result.decisions.panel.timeframe)
    return luck.bootstrapped(result.returns, samples, a_year, SEED) if samples else None


def judged_luck(
    trial: Trial, own: Blocks, family: Family, found: luck.Intervals | None, chance: luck.Chance | None = None
) -> Luck:
    """What the Sharpe ratio of a run is worth among its `family`, itself included, and what else was found of it."""
    verdict = luck.judged(trial.moments, own, family)
    a_year = SESSIONS * bars_a_session(trial.timeframe)
    sampled = {} if found is None else {name: value for name, value in asdict(found).items() if name != "block"}
    return Luck(
        trials=verdict.trials,
        effective_trials=verdict.effective,
        best_by_luck=verdict.by_luck * a_year**0.5,
        probabilistic_sharpe=verdict.probabilistic,
        deflated_sharpe=verdict.deflated,
        luck_p=verdict.p,
        null_runs=chance.runs if chance else 0,
        null_sharpe=chance.sharpe if chance else None,
        null_p=chance.p if chance else None,
        **sampled,
    )


def criticised(
    home: Path,
    neighbours: Sequence[float],
    result: Backtest,
    cash: float,
    refused: Mapping[str, Mapping[int, str]],
    *,
    timeout_s: float,
    plateau: float | None = None,
    swept: float | None = None,
) -> list[Finding]:
    """What the critic has to say about a run, after a look at what the store knows beside it.

    `neighbours` are the Sharpe ratios a bar of trials with nearly the same parameters, or, of a sweep's best, `plateau`, and
    `swept` its last equity there; `refused` are the quarantined rows of its panel.
    """
    decisions, panel = result.decisions, result.decisions.panel
    first = result.simulation.sessions[0].astype("datetime64[D]").astype(date)
    speaks = not decisions.stored.isdisjoint(decisions.signals)  # else no file of opinions need be opened
    return critic.findings(
        critic.Scene(
            result,
            cash,
            refused=refused,
            contaminated=contaminated(home, panel, first, timeout_s=timeout_s) if speaks else {},
            neighbours=neighbours,
            plateau=plateau,
            swept=swept,
        )
    )


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
