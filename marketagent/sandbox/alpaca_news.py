"""Alpaca's news, made from the market itself: an article tells of a day's move in the evening after it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from marketagent.sandbox.alpaca_query import companies, cut_out, instant
from marketagent.sandbox.market import Asset, Session
from marketagent.sandbox.names import called
from marketagent.sandbox.tape import new_york_day
from marketagent.sandbox.world import NEW_YORK, SandboxWorld

_LIMIT, _MOST = 10, 50
_RATE = 0.25  # of a symbol's sessions that somebody writes about
_AUTHORS = ("Ada Ticker", "Basil Spread", "Cora Ledger", "Dan Float")


@dataclass(frozen=True, kw_only=True)
class Article:
    number: int
    at: datetime
    symbol: str
    headline: str
    summary: str
    author: str


def news_page(world: SandboxWorld, asked: Mapping[str, str]) -> dict[str, Any]:
    """Newest first unless `sort=asc`. Raises Refusal, 400."""
    now = world.now()
    start = instant(asked.get("start"), "start") or datetime.combine(new_york_day(now), time(0), NEW_YORK)
    end = min(instant(asked.get("end"), "end", last=True) or now, now)
    names = asked.get("symbols")
    chosen = list(companies(world, names).values()) if names else list(world.market.assets())
    found = sorted(_articles(world, chosen, start, end), key=lambda one: (one.at, one.number))
    if asked.get("sort", "desc") != "asc":
        found = found[::-1]
    page, token = cut_out(found, asked, _LIMIT, _MOST)
    content = asked.get("include_content", "").lower() == "true"
    return {"news": [article_json(one, content=content) for one in page], "next_page_token": token}


def article_json(article: Article, *, content: bool) -> dict[str, Any]:
    return {
        "author": article.author,
        "content": f"<p>{article.summary}</p>" if content else "",
        "created_at": f"{article.at:%Y-%m-%dT%H:%M:%SZ}",
        "headline": article.headline,
        "id": article.number,
        "images": [],
        "source": "sandbox",
        "summary": article.summary,
        "symbols": [article.symbol],
        "updated_at": f"{article.at:%Y-%m-%dT%H:%M:%SZ}",
        "url": f"https://example.com/news/{article.number}",
    }


def _articles(world: SandboxWorld, assets: list[Asset], start: datetime, end: datetime) -> Iterator[Article]:
    for session in world.market.sessions(new_york_day(start), new_york_day(end)):
        for asset in assets:
            article = _article(world, asset, session)
            if article is not None and start <= article.at <= end:
                yield article


def _article(world: SandboxWorld, asset: Asset, session: Session) -> Article | None:
    """What is written about the day of `asset`, if anything is; always after its close."""
    dice = world.random("news", asset.symbol, session.day)
    if dice.random() >= _RATE:
        return None
    days = world.market.days(asset.symbol, session.day - timedelta(days=10), session.day)
    if len(days.close) < 2 or new_york_day(datetime.fromtimestamp(int(days.start[-1]), NEW_YORK)) != session.day:
        return None
    change = float(days.close[-1] / days.close[-2]) - 1
    name = called(world.market, asset.symbol, session.day)
    verb = "gains" if change >= 0 else "loses"
    return Article(
        number=_number(world, session.day, asset.symbol),
        at=session.close_at + timedelta(seconds=dice.randrange(60, 3 * 3600)),
        symbol=name,
        headline=f"{asset.name} {verb} {abs(change):.1%} on {session.day:%A}",
        summary=f"Shares of {asset.name} ({name}) closed at {float(days.close[-1]):.2f} on {session.day}.",
        author=dice.choice(_AUTHORS),
    )


def _number(world: SandboxWorld, day: date, symbol: str) -> int:
    return (day.toordinal() - 700_000) * 10**6 + world.random("news-number", symbol).randrange(10**6)
