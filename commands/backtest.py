"""``ma backtest``: trade a strategy's decisions over the past."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from marketagent import backtesting, catalog, each, grid, options, pipe, scoring, show, walking
from marketagent import home as homes
from marketagent.backtest import Terms
from marketagent.backtesting import Job, Places
from marketagent.config import Settings
from marketagent.errors import MarketAgentError
from marketagent.grid import Axis
from marketagent.orders import FRACTIONAL, WHOLE
from marketagent.process import stoppable
from marketagent.records import StrategyInfo
from marketagent.report.place import place, records
from marketagent.robustness.walk import Asked
from marketagent.simulate import FILLS
from marketagent.strategy import Strategy
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
        int | None,
        typer.Option("--top", min=1, help="How many of the best combinations of a sweep to print; by itself 10."),
    ] = None,
    alone: Annotated[
        bool, typer.Option("--each", help="Backtest each symbol alone, as if the command were run once for each.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the strategies with their parameters.")] = False,
    format: options.Format = "auto",
) -> int:
    """Backtest a strategy on SYMBOLS, by default all that are stored.

    Example: ma backtest --from 2005-01-01 --strategy sma_cross --set fast=20 --set slow=50

    A range (start:stop:step) or a list (a,b,c) as a value of --set sweeps the strategy over it; several make a grid.

    Example: ma backtest --strategy sma_cross --set fast=5:50:5 --set slow=20:200:10

    --walk-forward TRAIN/TEST refits the strategy on each window and trades the one after it, out of sample.

    Example: ma backtest --strategy momentum --walk-forward 3y/1y

    --each gives each symbol an account of its own with all the cash; one line says how the rule did on it.

    Example: ma backtest AAPL MSFT IBM --strategy sma_cross --each
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
    is_sweep = any(len(axis.values) > 1 for axis in axes)
    chosen = None if windows or is_sweep else loaded.configured(grid.texts_of(axes))
    most = grid.most(top, is_sweep=chosen is None and windows is None)
    first, last = options.span(since, until)
    bill = options.bill(settings, costs_name, slippage_bps, slippage, borrow_rate, margin_rate)
    start_cash = options.cash(cash, settings)
    places = Places(options.exportable(equity), options.exportable(fills), place(report))
    places.check(is_sweep=chosen is None and windows is None, each=alone)
    given = options.symbols_or_all(symbols, settings)
    view = scoring.View(
        last,
        options.stored_source(source),
        options.instant(known_at, "--known-at"),
        options.timeframe(timeframe),
        settings.now,
    )
    job = Job(
        settings.home,
        loaded,
        given.symbols or None,
        view,
        first,
        Terms(bill, start_cash, fill, FRACTIONAL if fractional else WHOLE),
        settings.now,
        settings.busy_timeout_s,
        benchmark,
        capacity,
        options.samples(bootstrap),
        null,
        alone,
    )
    run = options.new_run(settings)
    if alone:
        return _each(job, run, chosen, axes, windows, given, most, format)
    if windows is not None:
        made = backtesting.walked(job, run, axes, windows)
    elif chosen is not None:
        made = backtesting.tried(job, run, chosen)
    else:
        return _swept(job, run, axes, given, places, most, format)
    traded = made.result.decisions.panel.symbols
    missing = [name for name in given.symbols if name not in traded]
    places.put(job, made, missing)
    stdout = records(places.report)
    with pipe.sealed("backtest", format, run=run, at=settings.now, stdout=stdout, symbols=traded) as out:
        out.follow(given)
        out.write(made.record)
        for fold in made.folds if format != "csv" else ():  # whose rows are of one kind
            out.write(fold)
        out.curve = made.result.simulation.equity.tolist()
        _name_missing(out, missing)
    return out.exit_code


def _swept(
    job: Job, run: str, axes: Sequence[Axis], given: pipe.Input, places: Places, top: int, format: pipe.Format
) -> int:
    """Work through a sweep, keep all of it and print the best; what has ended it too early goes on once that is done."""
    with stoppable() as stops:
        made = backtesting.swept(job, run, axes, stops)
        traded = made.sweep.sweep.ground.panel.symbols
        missing = [name for name in given.symbols if name not in traded]
        places.put_sweep(job, made, missing)
        stops.release()
        stdout = records(places.report)
        with pipe.sealed("backtest", format, run=run, at=job.now, stdout=stdout, symbols=traded) as out:
            out.follow(given)
            for trial in made.sweep.best(made.sheet, top):
                out.write(trial)
            if format != "csv":  # whose rows are of one kind
                out.write(made.sheet)
            _name_missing(out, missing)
            show.say(made.sweep.summary)
            if made.ended is not None:
                raise made.ended
            stops.resume()
    return out.exit_code


def _each(
    job: Job,
    run: str,
    chosen: Strategy | None,
    axes: Sequence[Axis],
    windows: Asked | None,
    given: pipe.Input,
    top: int,
    format: pipe.Format,
) -> int:
    """The same of each symbol alone; what is done when something ends it too early is kept and printed likewise."""
    if told := each.ranking(job.loaded, axes):
        show.say(told)
    with stoppable() as stops:
        if windows is not None:
            made = each.walked(job, run, axes, windows, stops)
        elif chosen is not None:
            made = each.tried(job, run, chosen, stops)
        else:
            made = each.swept(job, run, axes, top, stops)
        stops.release()
        with pipe.sealed("backtest", format, run=run, at=job.now) as out:
            out.follow(given)
            for record in made.records:
                if format != "csv" or record.kind == made.records[0].kind:  # whose rows are of one kind
                    out.write(record)
            out.fail_all(made.failed)
            if made.said:
                show.say(made.said)
            if made.ended is not None:
                raise made.ended
            stops.resume()
    return out.exit_code


def _name_missing(out: pipe.Out, missing: Sequence[str]) -> None:
    for name in missing:
        out.fail(name, f"nothing is stored; run: ma fetch {name}")


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
