"""Where the money came from and what it cost: gains by symbol and by signal, fills on prices, costs."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from marketagent.attribution import Gains, by_signal, gains
from marketagent.backtest import Backtest
from marketagent.events import FILL
from marketagent.formats import cell
from marketagent.report.model import Axis, Chart, Group, Picker, Section, Series, Sheet, Table
from marketagent.report.sections import numbers, timeline
from marketagent.report.thin import thinned

ENDS = 15  # symbols at the top and at the bottom of the contributions
PICTURED = 12  # symbols whose fills are shown on their prices
_PRICES, _FILLS = 600, 400  # points of each of them


def contributions(result: Backtest) -> Section:
    """The gain by symbol and by signal."""
    gained = gains(result)
    if not len(gained.columns):
        return Section("Contributions", note="Nothing was traded.")
    return Section("Contributions", [_by_symbol(result, gained), _by_signal(result, gained)])


def _by_symbol(result: Backtest, gained: Gains) -> Chart:
    names = [result.decisions.panel.symbols[n] for n in gained.columns]
    order = np.argsort(-gained.by_symbol, kind="stable").tolist()
    pairs = [(names[n], float(gained.by_symbol[n])) for n in order]
    note = "Prices, dividends and costs of trading, closed and open positions."
    if len(pairs) > 2 * ENDS:
        rest = pairs[ENDS:-ENDS]
        pairs = [*pairs[:ENDS], *pairs[-ENDS:]]
        others = cell("cash", sum(value for _, value in rest))
        note += (
            f" The {ENDS} best and the {ENDS} worst of {len(names)} symbols; the other {len(rest)} together: {others}."
        )
    (best, most), (worst, least) = pairs[0], pairs[-1]
    lent = float(result.simulation.lent.sum())
    note += f" Lending, {cell('cash', lent)}, is not among them." if lent else ""
    return Chart(
        "Gain by symbol in USD",
        f"The best is {best} with {cell('cash', most)} USD, the worst {worst} with {cell('cash', least)}.",
        Axis("number"),
        Axis("category"),
        [Series("gain", "bars", numbers(np.array([v for _, v in pairs[::-1]])), [name for name, _ in pairs[::-1]])],
        note,
        height=70 + 19 * max(len(pairs), 2),
    )


def _by_signal(result: Backtest, gained: Gains) -> Table:
    found = by_signal(result.decisions, gained)
    return Table(
        "Gain by signal in USD",
        ["signal", "gain"],
        [[name, cell("cash", value)] for name, value in found.items()] + [["all", cell("cash", gained.total)]],
        right=(1,),
        note="The gain of a position on a session is divided among the signals that spoke for it at the newest decision"
        " before, by what each added to the score.",
    )


def on_prices(result: Backtest) -> Section:
    """The fills of the symbols that were traded most often, on their prices."""
    events = result.simulation.events
    filled = events.column[events.kind == FILL]
    columns, counts = np.unique(filled, return_counts=True)
    order = columns[np.argsort(-counts, kind="stable")][:PICTURED].tolist()
    if not order:
        return Section("Fills on price", note="Nothing was filled.")
    note = f"The {len(order)} most often traded of {len(columns)} symbols." if len(columns) > len(order) else ""
    picker = Picker("Fills on price", "symbol", [_filled(result, column) for column in order])
    return Section("Fills on price", [picker], note)


def _filled(result: Backtest, column: int) -> Chart:
    run, panel, axis = result.simulation, result.decisions.panel, timeline(result)
    first, symbol = len(panel.sessions) - len(run.equity), panel.symbols[column]
    since = panel.split_factor[:, column] / panel.split_factor[-1, column]  # in shares as they are in the end
    price = (panel.raw.close[:, column] * since)[first:]
    rows = thinned([price], _PRICES) if np.isfinite(price).any() else np.arange(0)
    rows = rows[np.isfinite(price[rows])]
    events = run.events
    mine = np.flatnonzero((events.kind == FILL) & (events.column == column))
    shown = mine[-_FILLS:]
    note = "" if len(shown) == len(mine) else f"The latest {len(shown):,} of {len(mine):,} fills."
    split = " Prices and shares as they were after the last split." if np.ptp(since[first:]) else ""

    def marks(name: Literal["buy", "sell"], these: NDArray[np.int64]) -> Series:
        at = events.row[these]
        told = [
            f"{when} {name} {cell('', quantity)} at {cell('price', paid)}".strip()
            for when, quantity, paid in zip(
                axis.told(at - first) or axis.places(at - first),
                np.abs(events.quantity[these] / since[at]).tolist(),
                (events.price[these] * since[at]).tolist(),
                strict=True,
            )
        ]
        return Series(name, name, axis.places(at - first), numbers(events.price[these] * since[at]), told)

    return Chart(
        f"{symbol}: fills on price",
        f"{symbol} with {len(mine)} fills.",
        axis.axis,
        Axis("number"),
        [
            Series("price", "price", axis.places(rows), numbers(price[rows]), axis.told(rows)),
            marks("buy", shown[events.quantity[shown] > 0]),
            marks("sell", shown[events.quantity[shown] < 0]),
        ],
        (note + split).strip(),
        choice=symbol,
        height=340,
    )


def costs(result: Backtest, sheet: Sheet, record: Mapping[str, Any]) -> Section:
    """What trading and lending cost, the break-even cost, and other sizes of the account."""
    events, panel = result.simulation.events, result.decisions.panel
    is_fill = events.kind == FILL
    value = np.where(is_fill, np.abs(events.quantity) * events.price, 0.0)
    untouched = (panel.raw.open if record["fill"] == "next-open" else panel.raw.close)[events.row, events.column]
    moved = np.where(is_fill, np.abs(events.quantity) * np.abs(events.price - untouched), 0.0)
    traded = float(value.sum())
    paid = {
        "commissions and fees": float(events.commission.sum()),
        "slippage": float(moved.sum()),
        "borrowing and interest": float(result.simulation.lent.sum()),
    }
    rows = [_cost(name, usd, traded, record["cash"]) for name, usd in paid.items()]
    table = Table(
        "What it cost",
        ["cost", "USD", "of starting cash", "bps of traded value"],
        [*rows, _cost("all", sum(paid.values()), traded, record["cash"])],
        right=(1, 2, 3),
        note=f"{cell('cash', traded)} USD were traded in {int(is_fill.sum()):,} fills.",
    )
    groups = [group for group in sheet.groups if group.title == "costs"]
    parts: list[Table | Group] = [table, *groups]
    return Section("Costs", parts + ([sheet.capacity] if sheet.capacity else []))


def _cost(name: str, usd: float, traded: float, cash: float) -> list[str]:
    return [name, cell("cash", usd), f"{usd / cash:.2%}", f"{usd / traded * 10_000:.2f}" if traded else ""]
