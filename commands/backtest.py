"""``ma backtest``: trade a strategy's decisions over the past."""

from pathlib import Path
from typing import Annotated

import typer

from marketagent import catalog, grid, judging, nulling, options, pipe, scoring, show, sweeping, walking
from marketagent import home as homes
from marketagent.backtest import backtest
from marketagent.config import Settings
from marketagent.errors import MarketAgentError, UsageError
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.records import StrategyInfo
from marketagent.report.place import Place, place, records
from marketagent.simulate import FILLS
from marketagent.store import runs, trials
from marketagent.timeframes import DAY


def run(
    symbols: options.Symbols = None,
    strategy: options.Strategy = "ensemble",
    values: options.Set = None,
    since: Annotated[str | None, typer.Option("--from", help="First session that decides.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last session.")] = None,
    cash: Annotated[float | None, typer.Option("--cash", help="Starting cash in USD.")] = None,
    costs_name: options.Costs = None,
    slippage_bps: options.Slippage = None,
    slippage: options.SlippageModel = None,
    borrow_rate: options.BorrowRate = None,
    margin_rate: options.MarginRate = None,
    capacity: Annotated[bool, typer.Option("--capacity", help="Also with 10, 100 and 1,000 times the cash.")] = False,
    benchmark: Annotated[str | None, typer.Option("--benchmark", help="A stored symbol to compare with.")] = None,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", min=0, max=100_000, help="Intervals of so many bootstrap samples, e.g. 1000.")
    ] = 0,
    walk_forward: Annotated[
        str | None,
        typer.Option("--walk-forward", help="Refit on one length, judge on the next: 3y/1y, 6m/1m, 250d/60d."),
    ] = None,
    purge: Annotated[
        int | None, typer.Option("--purge", min=0, help="Sessions left out between training and test; by itself 1.")
    ] = None,
    embargo: Annotated[
        int | None, typer.Option("--embargo", min=0, help="Sessions after a test left out of later training.")
    ] = None,
    null: Annotated[
        int, typer.Option("--null", min=0, max=100_000, help="Against so many runs of random entries, e.g. 200.")
    ] = 0,
    fill: Annotated[str, typer.Option("--fill", help="next-open, next-close or same-close.")] = "next-open",
    fractional: options.Fractional = False,
    timeframe: options.Timeframe = DAY,
    source: options.Source = None,
    known_at: options.KnownAt = None,
    equity: Annotated[
        Path | None, typer.Option("--equity", help="Write equity by session to this .parquet or .csv.")
    ] = None,
    fills: Annotated[Path | None, typer.Option("--fills", help="Write every fill to this .parquet or .csv.")] = None,
    report: Annotated[
        str | None, typer.Option("--report", help="Write a page of it all to this .html file; - is stdout.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", min=1, help="How many of the best combinations of a sweep to print.")
    ] = 10,
    listed: Annotated[bool, typer.Option("--list", help="List the strategies with their parameters.")] = False,
    format: options.Format = "auto",
) -> int:
    """Backtest a strategy on SYMBOLS, by default all that are stored.

    Example: ma backtest --from 2005-01-01 --strategy sma_cross --set fast=20 --set slow=50

    A range (start:stop:step) or a list (a,b,c) as a value of --set sweeps the strategy over it; several make a grid.

    Example: ma backtest --strategy sma_cross --set fast=5:50:5 --set slow=20:200:10

    --walk-forward TRAIN/TEST refits the strategy on each window and trades the one after it, out of sample.

    Example: ma backtest --strategy momentum --walk-forward 3y/1y
    """
    settings = Settings.load()
    if listed:
        return _list(settings, format)
    homes.check(settings.home, write=True)  # before a strategy of its folder is run
    loaded = catalog.load(strategy, settings.home)
    texts = options.pairs(values, "--set")
    options.one_of(fill, FILLS, "--fill")
    windows = walking.asked(walk_forward, purge, embargo, fill)
    axes = grid.axes(loaded.kind, texts) if windows is None else walking.grid_of(loaded, texts)
    varies = windows is not None or any(len(axis.values) > 1 for axis in axes)
    chosen = None if varies else loaded.configured(texts)
    first, last = options.span(since, until)
    bill = options.bill(settings, costs_name, slippage_bps, slippage, borrow_rate, margin_rate)
    start_cash = settings.cash if cash is None else options.positive(cash, "--cash")
    for path in (equity, fills):
        options.exportable(path)
    if equity is not None and fills is not None and equity.resolve() == fills.resolve():
        raise UsageError(f"--equity and --fills both name {equity}")
    where = place(report)
    given = options.symbols_or_all(symbols, settings)
    view = scoring.View(
        last,
        options.stored_source(source),
        options.instant(known_at, "--known-at"),
        options.timeframe(timeframe),
        settings.now,
    )
    wait = settings.busy_timeout_s
    walked = None
    if chosen is not None:
        decisions = scoring.decided(settings.home, loaded, chosen, given.symbols or None, view, timeout_s=wait)
        start = scoring.start_row(decisions.panel, first)
    else:
        panel = view.panel(settings.home, given.symbols or None, timeout_s=wait)
        if windows is None:
            for option, value in (("--equity", equity), ("--fills", fills), ("--null", null or None)):
                if value is not None:
                    raise UsageError(f"{option} is of one run, and --set has several values; leave one of them out")
            sweep = sweeping.prepared(
                settings.home, loaded, axes, panel, view, bill, start_cash,
                first=first, fill=fill, fractional=fractional, benchmark=benchmark, timeout_s=wait,
            )  # fmt: skip
            return _swept(settings, sweep, given, top, format, where)
        walked = walking.walked(
            settings.home, loaded, axes, panel, view, bill, start_cash, windows,
            first=first, fill=fill, fractional=fractional, timeout_s=wait,
        )  # fmt: skip
        decisions, start = walked.decisions, walked.start
    result = backtest(
        decisions,
        bill,
        start_cash,
        start=start,
        fill=fill,
        steps=FRACTIONAL if fractional else WHOLE,
        benchmark=scoring.read_benchmark(settings.home, decisions.panel, benchmark, view, timeout_s=wait),
        capacity=capacity,
    )
    run = options.new_run(settings)
    missing = [name for name in given.symbols if name not in decisions.panel.symbols]
    trial = scoring.trial_of(run, loaded, result)
    if walked is not None:
        judging.entered(settings.home, run, walked.swept, walked.numbers, settings.now, timeout_s=wait)
        trial = walked.trial(trial)
    chance = None
    if null:
        chance = nulling.tested(
            settings.home, result, bill, start_cash, null, start=start, fill=fill, fractional=fractional
        )
    family, neighbours = trials.record_one(settings.home, trial, settings.now, timeout_s=wait)
    worth = scoring.judged_luck(trial, family, result, bootstrap, chance)
    doubts = scoring.criticised(settings.home, neighbours, result, start_cash, view, timeout_s=wait)
    record = scoring.backtest_record(
        run, loaded, result, bill, start_cash, fill, benchmark, fractional=fractional, worth=worth, findings=doubts
    )
    folds = [] if walked is None else walked.records(run, result)
    if walked is not None:
        record = walked.labelled(record)
        runs.write_folds(settings.home, folds, timeout_s=wait)
    runs.write_backtest(settings.home, record, result, decisions.panel.symbols, settings.now, timeout_s=wait)
    for path, columns in ((equity, runs.equity_columns), (fills, runs.event_columns)):
        if path is not None:
            runs.export(columns(result), path)
    if where is not None:
        from marketagent import reporting  # a run without a page does not pay for it

        reporting.of_run(settings.home, where, record, result, folds, missing, settings.now, timeout_s=wait)
    with pipe.sealed("backtest", format, run=run, at=settings.now, stdout=records(where)) as out:
        out.follow(given)
        out.write(record)
        for fold in folds if format != "csv" else ():  # whose rows are of one kind
            out.write(fold)
        out.curve = result.simulation.equity.tolist()
        for name in missing:
            out.fail(name, f"nothing is stored; run: ma fetch {name}")
    return out.exit_code


def _swept(
    settings: Settings, sweep: sweeping.Sweeping, given: pipe.Input, top: int, format: pipe.Format, where: Place | None
) -> int:
    """Work through a sweep, keep all of it and print the best; an interruption goes on once that is done."""
    run = options.new_run(settings)
    interruption = sweep.work()
    family = judging.entered(
        settings.home, run, sweep, sweep.sweep.done, settings.now, timeout_s=settings.busy_timeout_s
    )
    sheet = judging.judged(run, sweep, family)
    sweep.keep(settings.home, sheet, settings.now, timeout_s=settings.busy_timeout_s)
    missing = [name for name in given.symbols if name not in sweep.sweep.ground.panel.symbols]
    if where is not None:
        from marketagent import reporting  # as above

        reporting.of_sweep(settings.home, where, sweep, sheet, missing, settings.now, timeout_s=settings.busy_timeout_s)
    with pipe.sealed("backtest", format, run=run, at=settings.now, stdout=records(where)) as out:
        out.follow(given)
        for trial in sweep.best(sheet, top):
            out.write(trial)
        if format != "csv":  # whose rows are of one kind
            out.write(sheet)
        for name in missing:
            out.fail(name, f"nothing is stored; run: ma fetch {name}")
        show.say(sweep.summary)
        if interruption is not None:
            raise interruption
    return out.exit_code


def _list(settings: Settings, format: pipe.Format) -> int:
    """Every strategy that ``--strategy`` can name; one that cannot be loaded is named with the reason."""
    if settings.home.exists():
        homes.check_folder(settings.home)
    with pipe.sealed("backtest", format, run=options.new_run(settings), at=settings.now) as out:
        for name in catalog.files(settings.home):
            try:
                loaded = catalog.load(name, settings.home)
                warmup = loaded.configured({}).warmup
            except MarketAgentError as error:
                out.fail(name, error)  # a broken file of the user's must not hide the others
                continue
            out.write(
                StrategyInfo(
                    name=name,
                    summary=loaded.summary,
                    file=str(loaded.file),
                    warmup=warmup,
                    params=loaded.kind.described(),
                    own=loaded.kind.own(),
                )
            )
    return out.exit_code
