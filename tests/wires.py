"""Vendors made by hand for the tests of the sources: answers by path, as the fact sheets have them, over real sockets."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from faulty import Faulty, reply, serving
from prices import History

from marketagent.bars import midnight

Answer = tuple[str, Any] | bytes
Route = Callable[[str, dict[str, str]], Answer]


def routed(routes: dict[str, Route]) -> Any:
    """A script of `faulty`: the first route whose prefix fits the path answers."""

    def play(connection: Any, head: str) -> None:
        parts = urlsplit(head.split(" ")[1])
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        for prefix, route in routes.items():
            if parts.path.startswith(prefix):
                answer = route(parts.path, query)
                break
        else:
            answer = ("404 Not Found", b"404 page not found")
        connection.sendall(answer if isinstance(answer, bytes) else spoken(*answer))

    return play


def spoken(status: str, body: Any) -> bytes:
    # Without a date: that of `faulty` is the clock of the tests of the client, and these run by the real one.
    return reply(body if isinstance(body, bytes) else json.dumps(body).encode(), status, Date=None)


class Book:
    """Daily histories by symbol, as both vendors would serve them."""

    def __init__(self, *histories: History) -> None:
        self.histories = {history.symbol: history for history in histories}
        self.page = 10_000  # bars of one page

    def rows(self, symbol: str, first: date, last: date) -> list[dict[str, Any]]:
        history = self.histories.get(symbol)
        if history is None:
            return []
        return [
            {
                "t": midnight(day) * 1000,
                "o": float(history.open[n]),
                "h": float(history.high[n]),
                "l": float(history.low[n]),
                "c": float(history.close[n]),
                "v": int(history.volume[n]),
            }
            for n, day in enumerate(history.days)
            if first <= day <= last
        ]

    def actions(self, kind: str, symbol: str | None, first: date, last: date) -> list[tuple[str, date, float]]:
        found = []
        for name, history in self.histories.items():
            events = history.split if kind == "split" else history.dividend
            found += [(name, history.days[n], value) for n, value in events.items()]
        return [one for one in found if symbol in (None, one[0]) and first <= one[1] <= last]

    def polygon(self) -> dict[str, Route]:
        return {
            "/v2/aggs/ticker/": self._polygon_bars,
            "/v2/aggs/grouped/": self._polygon_grouped,
            "/v3/reference/splits": self._polygon_splits,
            "/v3/reference/dividends": self._polygon_dividends,
        }

    def _polygon_bars(self, path: str, query: dict[str, str]) -> Answer:
        _, _, _, _, symbol, _, _, span, first, last = path.split("/")
        assert (span, query["adjusted"]) == ("day", "false")
        rows = self.rows(symbol, date.fromisoformat(first), date.fromisoformat(last))
        start = int(query.get("cursor", 0))
        page = rows[start : start + self.page]
        body = {"ticker": symbol, "adjusted": False, "queryCount": len(page), "resultsCount": len(page), "status": "OK"}
        if page:
            body["results"] = page
        if start + self.page < len(rows):
            body["next_url"] = f"https://api.massive.com{path}?adjusted=false&cursor={start + self.page}"
        return "200 OK", body

    def _polygon_grouped(self, path: str, query: dict[str, str]) -> Answer:
        day = date.fromisoformat(path.split("/")[-1])
        end = (midnight(day) + 16 * 3600) * 1000
        rows = [row | {"T": symbol, "t": end} for symbol in self.histories for row in self.rows(symbol, day, day)]
        return "200 OK", {"status": "OK", "resultsCount": len(rows), "results": [*rows, {"T": "BACpB", "t": end}]}

    def _polygon_splits(self, path: str, query: dict[str, str]) -> Answer:
        first, last = (date.fromisoformat(query[f"execution_date.{end}"]) for end in ("gte", "lte"))
        found = self.actions("split", query.get("ticker"), first, last)
        items = [
            {"id": f"s{n}", "ticker": symbol, "execution_date": str(day), "split_from": 1, "split_to": value}
            for n, (symbol, day, value) in enumerate(found)
        ]
        return "200 OK", {"status": "OK", "results": items}

    def _polygon_dividends(self, path: str, query: dict[str, str]) -> Answer:
        first, last = (date.fromisoformat(query[f"ex_dividend_date.{end}"]) for end in ("gte", "lte"))
        found = self.actions("dividend", query.get("ticker"), first, last)
        items = [
            {"id": f"d{n}", "ticker": symbol, "ex_dividend_date": str(day), "cash_amount": value, "currency": "USD"}
            for n, (symbol, day, value) in enumerate(found)
        ]
        return "200 OK", {"status": "OK", "results": items}

    def alpaca(self) -> dict[str, Route]:
        return {"/v2/stocks/bars": self._alpaca_bars, "/v1/corporate-actions": self._alpaca_actions}

    def _alpaca_bars(self, path: str, query: dict[str, str]) -> Answer:
        assert (query["adjustment"], query["feed"]) == ("raw", "iex")
        first, last = (datetime.fromisoformat(query[end]).timestamp() * 1000 for end in ("start", "end"))
        symbols = query["symbols"].split(",")
        whole = [(symbol, row) for symbol in symbols for row in self.rows(symbol, date.min, date.max)]
        rows = [(symbol, row) for symbol, row in whole if first <= row["t"] <= last]
        start = int(query.get("page_token", 0))
        bars: dict[str, list[Any]] = {}
        for symbol, row in rows[start : start + self.page]:
            at = datetime.fromtimestamp(row["t"] // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            bars.setdefault(symbol, []).append(row | {"t": at, "n": 1, "vw": 1.0})
        more = start + self.page < len(rows)
        return "200 OK", {"bars": bars, "next_page_token": str(start + self.page) if more else None}

    def _alpaca_actions(self, path: str, query: dict[str, str]) -> Answer:
        first, last = (date.fromisoformat(query[end]) for end in ("start", "end"))
        symbols = query["symbols"].split(",")
        splits = [one for symbol in symbols for one in self.actions("split", symbol, first, last)]
        paid = [one for symbol in symbols for one in self.actions("dividend", symbol, first, last)]
        return "200 OK", {
            "corporate_actions": {
                "forward_splits": [
                    {"symbol": s, "ex_date": str(day), "new_rate": value, "old_rate": 1} for s, day, value in splits
                ],
                "cash_dividends": [{"symbol": s, "ex_date": str(day), "rate": value} for s, day, value in paid],
            },
            "next_page_token": None,
        }


@contextmanager
def vendor(routes: dict[str, Route]) -> Iterator[tuple[Faulty, dict[str, str]]]:
    """A server with `routes`, and the environment that makes it both vendors."""
    with serving(routed(routes)) as server:
        ws = server.url.replace("http", "ws", 1)
        yield (
            server,
            {
                "POLYGON_BASE_URL": server.url,
                "POLYGON_STREAM_URL": ws,
                "POLYGON_API_KEY": "k3y-CANARY-polygon",
                "POLYGON_CALLS_PER_MINUTE": "0",
                "APCA_API_BASE_URL": server.url,
                "APCA_API_DATA_URL": server.url,
                "APCA_API_STREAM_URL": ws,
                "APCA_API_KEY_ID": "k3y-CANARY-id",
                "APCA_API_SECRET_KEY": "k3y-CANARY-secret",
                "ALPACA_CALLS_PER_MINUTE": "0",
                "BULLAWARE_BASE_URL": server.url,
            },
        )


def clock_at(moment: str) -> str:
    """MA_CLOCK for a market time that stands still, but for a day in some million years."""
    return f"{moment}@1795000000*0.000000001"
