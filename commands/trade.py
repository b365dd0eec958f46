"""``ma trade``: bring an account to the decisions on stdin.

Everything is read and checked before the first order; every order is written down before it is sent.
"""

import sys
from typing import Annotated

import typer

from marketagent import live_trade, options, paper, pipe, trading
from marketagent.config import Settings

app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})

AccountName = Annotated[str | None, typer.Option("--account", help="The local paper account.")]
MaxAge = Annotated[
    float | None, typer.Option("--max-age", help="Refuse a stream, or a bar within a day, older than so many seconds.")
]


@app.callback(invoke_without_command=True)
def run(
    context: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be ordered, and do nothing.")] = False,
    fill: Annotated[
        str, typer.Option("--fill", help="next-open, or last: fill at the close decided on.")
    ] = "next-open",
    account: AccountName = None,
    max_age: MaxAge = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Take a stream that was done in part.")
    ] = False,
    allow_filtered: Annotated[
        bool, typer.Option("--allow-filtered", help="Take a stream that jq or grep went over.")
    ] = False,
    allow_short: Annotated[bool, typer.Option("--allow-short", help="Take decisions for short positions.")] = False,
    fractional: options.Fractional = False,
    format: options.Format = "auto",
) -> int:
    """Trade the decisions on stdin on the local paper account, each of them once.

    On those of a running ma score it keeps running, and trades each round when it has arrived whole.

    Example: ma score AAPL MSFT --strategy momentum | ma trade --plan
    """
    if context.invoked_subcommand is not None:
        return 0
    settings = Settings.load()
    terms = trading.Terms(
        account or settings.account,
        options.cash(None, settings),
        options.bill(settings),
        fractional,
        allow_short,
        options.one_of(fill, trading.FILLS, "--fill"),
    )
    age = settings.max_age_s if max_age is None else options.at_least_0(max_age, "--max-age")
    incoming = pipe.Incoming(sys.stdin)
    if incoming.is_live:
        trader = live_trade.Trader(settings, terms, age, max_age is None, allow_partial, allow_filtered, plan, format)
        return live_trade.trade(incoming, trader)
    sealed = pipe.read(incoming, kinds=("decision",), allow_filtered=allow_filtered)
    pipe.check(sealed, now=settings.now, max_age_s=age, allow_partial=allow_partial)
    wait = settings.busy_timeout_s
    if plan:
        orders = paper.plan(settings.home, sealed, terms, timeout_s=wait)
    else:
        orders = paper.trade(settings.home, sealed, terms, settings.now, timeout_s=wait)
    with pipe.sealed("trade", format, run=options.new_run(settings), at=settings.now) as out:
        out.up = sealed.end
        for order in orders:
            out.write(order)
    return out.exit_code


@app.command()
def positions(account: AccountName = None, format: options.Format = "auto") -> int:
    """Cash and holdings at the account's last settled session.

    Example: ma trade positions
    """
    settings = Settings.load()
    held = paper.positions(settings.home, account or settings.account, timeout_s=settings.busy_timeout_s)
    with pipe.sealed("trade positions", format, run=options.new_run(settings), at=settings.now) as out:
        for position in held:
            out.write(position)
    return out.exit_code


@app.command()
def orders(account: AccountName = None, format: options.Format = "auto") -> int:
    """Every order of the account, oldest session first.

    Example: ma trade orders --format csv
    """
    settings = Settings.load()
    found = paper.orders(settings.home, account or settings.account, timeout_s=settings.busy_timeout_s)
    with pipe.sealed("trade orders", format, run=options.new_run(settings), at=settings.now) as out:
        for order in found:
            out.write(order)
    return out.exit_code
