"""Alpaca's corporate actions: splits, cash dividends and new names, as they were announced, up to today."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from marketagent.sandbox.alpaca_query import cut_out, instant
from marketagent.sandbox.names import called, company
from marketagent.sandbox.refusal import Refusal
from marketagent.sandbox.tape import new_york_day
from marketagent.sandbox.world import SandboxWorld

TYPES = (
    "cash_dividend",
    "cash_merger",
    "forward_split",
    "name_change",
    "redemption",
    "reverse_split",
    "rights_distribution",
    "spin_off",
    "stock_and_cash_merger",
    "stock_dividend",
    "stock_merger",
    "unit_split",
    "worthless_removal",
)
_LIMIT, _MOST = 100, 1000
Row = tuple[str, date, dict[str, Any]]


def corporate_actions(world: SandboxWorld, asked: Mapping[str, str]) -> dict[str, Any]:
    """One page, by type; rates are as paid, not adjusted for later splits. Raises Refusal, 400."""
    found = _selected(world, asked)
    if asked.get("sort", "asc") == "desc":
        found = found[::-1]
    rows, token = cut_out(found, asked, _LIMIT, _MOST)
    page: dict[str, list[dict[str, Any]]] = {}
    for kind, _, row in rows:
        page.setdefault(f"{kind}s", []).append(row)
    return {"corporate_actions": page, "next_page_token": token}


def _selected(world: SandboxWorld, asked: Mapping[str, str]) -> list[Row]:
    today = new_york_day(world.now())
    first, last = (_day(asked.get(name), name, today) for name in ("start", "end"))
    types = {name for name in asked.get("types", "").split(",") if name} or set(TYPES)
    if unknown := types - set(TYPES):
        raise Refusal(400, None, f"invalid type: {min(unknown)[:40]}")
    if ids := {name for name in asked.get("ids", "").split(",") if name}:
        return [row for row in _all(world, date.min, today, None) if row[2]["id"] in ids]
    symbols = None
    if asked.get("symbols"):
        names = [company(world.market, name, today) for name in asked["symbols"].split(",")]
        symbols = {asset.symbol for asset in names if asset}
    rows = [row for row in _all(world, first, min(last, today), symbols) if row[0] in types]
    if cusips := {name for name in asked.get("cusips", "").split(",") if name}:
        rows = [row for row in rows if cusips & {str(value) for name, value in row[2].items() if "cusip" in name}]
    return rows


def _all(world: SandboxWorld, first: date, last: date, symbols: set[str] | None) -> list[Row]:
    """(type, day, row), by type, day and symbol."""
    found: list[tuple[str, date, str, dict[str, Any]]] = []
    for split in world.market.splits(None, first, last):
        kind = "forward_split" if split.new >= split.old else "reverse_split"
        found.append((kind, split.day, split.symbol, {"new_rate": split.new, "old_rate": split.old}))
    for dividend in world.market.dividends(None, first, last):
        more = {"rate": dividend.cash, "special": dividend.special, "foreign": False}
        found.append(("cash_dividend", dividend.day, dividend.symbol, more))
    for asset in world.market.assets():
        for day, old in asset.former:
            if first <= day <= last:
                found.append(("name_change", day, asset.symbol, {"old_symbol": old}))
    wanted = [one for one in found if symbols is None or one[2] in symbols]
    return [
        (kind, day, _row(world, kind, day, symbol, more)) for kind, day, symbol, more in sorted(wanted, key=_by_type)
    ]


def _by_type(one: tuple[str, date, str, dict[str, Any]]) -> tuple[str, date, str]:
    return one[0], one[1], one[2]


def _row(world: SandboxWorld, kind: str, day: date, symbol: str, more: dict[str, Any]) -> dict[str, Any]:
    number = world.random("alpaca-action", kind, day, symbol).getrandbits(128)
    name, cusip = called(world.market, symbol, day), _cusip(world, symbol)
    row: dict[str, Any] = {"id": str(UUID(int=number, version=4)), "process_date": str(day)}
    if kind == "name_change":
        return row | {
            "old_symbol": more["old_symbol"],
            "old_cusip": _cusip(world, f"{symbol} once"),
            "new_symbol": name,
            "new_cusip": cusip,
        }
    row |= {"symbol": name, "ex_date": str(day), **more}
    if kind == "reverse_split":
        return row | {"old_cusip": _cusip(world, f"{symbol} once"), "new_cusip": cusip}
    row |= {"cusip": cusip, "record_date": str(day), "payable_date": str(day)}
    if kind == "cash_dividend":
        row["payable_date"] = str(day + timedelta(days=21))
        row["process_date"] = row["payable_date"]
    return row


def _cusip(world: SandboxWorld, name: str) -> str:
    return f"{world.random('cusip', name).randrange(10**8):08d}0"


def _day(text: str | None, name: str, default: date) -> date:
    found = instant(text, name)
    return new_york_day(found) if found and text and len(text) == 10 else found.date() if found else default
