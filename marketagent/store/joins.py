"""Where a file meets what is stored: slipped digits beside a stored bar, and splits and dividends over the seam.

Both work on the tables ``fresh``, ``acts`` and ``bad`` of a merge under way, before anything of them is stored.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from marketagent.actions import Inferred, infer
from marketagent.panel import Array
from marketagent.store.connection import Connection

_SMALL = 1e-3  # of the price: an action this small may come and go with where a column is cut
_SAME = 0.01  # two readings of one action from parts of one column differ less
_DIVIDEND = 0.05  # of the price: a larger step at a seam must be seen in the price, too


def set_slips_apart(con: Connection) -> None:
    """Move a bar to ``bad`` whose close is over a thousand times off every bar beside it, in the file or stored.

    A split given for its session explains such a step.
    """
    con.execute(
        """
        CREATE TEMP TABLE slipped AS
        WITH kept AS (
            SELECT symbol, ts, close FROM bars b
            WHERE timeframe = getvariable('timeframe') AND source = getvariable('source')
              AND symbol IN (SELECT symbol FROM fresh) AND NOT EXISTS (FROM fresh f WHERE f.symbol = b.symbol AND f.ts = b.ts)
        ), beside AS (
            SELECT symbol, ts, session, line, close, lag(close) OVER w AS before, lead(close) OVER w AS after
            FROM (SELECT symbol, ts, session, line, close FROM fresh UNION ALL SELECT symbol, ts, NULL, NULL, close FROM kept)
            WINDOW w AS (PARTITION BY symbol ORDER BY ts)
        )
        SELECT symbol, ts, session, line FROM beside b
        WHERE line IS NOT NULL AND coalesce(before, after) IS NOT NULL
          AND (before IS NULL OR greatest(close / before, before / close) > 1000)
          AND (after IS NULL OR greatest(close / after, after / close) > 1000)
          AND NOT EXISTS (FROM acts a WHERE a.kind = 'split' AND NOT getvariable('inferred')
                          AND a.symbol = b.symbol AND a.session = b.session);
        INSERT INTO bad
        SELECT f.line, f.symbol, f.session::VARCHAR, f.session, 'close ' || f.close || ' is over a thousand times off the bar beside it',
               concat_ws(',', f.symbol, f.session, f.open, f.high, f.low, f.close, f.volume)
        FROM fresh f JOIN slipped USING (symbol, ts);
        DELETE FROM fresh f USING slipped s WHERE f.symbol = s.symbol AND f.ts = s.ts;
        DELETE FROM acts a USING slipped s WHERE getvariable('inferred') AND a.symbol = s.symbol AND a.session = s.session;
        DROP TABLE slipped
        """
    )


def infer_over_seams(con: Connection) -> list[str]:
    """Read the splits and dividends of ``acts`` anew where stored bars continue the file; returns notes.

    With file and store printed on one base they are read from both together, as if they had come at once: the table
    ``joined`` names those symbols. Else only the step at the seam itself is looked at, which neither shows alone. A
    step at a seam may be no more than a change of base (a later printing is lower by all payments since): it counts
    only between neighbouring sessions, and if the price shows it, too, or if it is as small as a dividend.
    """
    con.execute("CREATE TEMP TABLE joined (symbol VARCHAR)")
    notes: list[str] = []
    for symbol, series in _series(con).items():
        found = infer(series.close, series.adjusted)
        sure = [_believable(series, row, split) for row, split in zip(found.row, found.split, strict=True)]
        seam = series.is_seam[found.row]
        if not found.noisy and series.one_base and _agrees(con, symbol, series, found, ~seam):
            con.execute("DELETE FROM acts WHERE symbol = ?", [symbol])
            con.execute("INSERT INTO joined VALUES (?)", [symbol])
            taken = np.array(sure, dtype=bool) | ~seam
        else:
            found, taken = _at_seams(series)
        for row in found.row[~taken]:
            notes.append(
                f"{symbol}: adj_close steps at {series.day(row)}, where this file meets what is stored; no split or dividend"
                " was taken from that: bars are missing there, or it is another printing. A file of both sides would tell"
            )
        _add(con, symbol, series, found, taken)
    return notes


@dataclass(frozen=True)
class _Series:
    """Closes of one symbol, stored and fresh in one; `is_seam` where a bar is only in one and the one before only in
    the other, `follows` where no session lies between the two."""

    session: NDArray[np.datetime64]
    close: Array
    adjusted: Array
    is_seam: NDArray[np.bool_]
    follows: NDArray[np.bool_]
    one_base: bool

    def day(self, row: int) -> date:
        day: date = self.session[row].astype("datetime64[D]").item()
        return day


def _series(con: Connection) -> dict[str, _Series]:
    rows = con.execute(
        """
        WITH kept AS (
            SELECT symbol, ts, session, close, adj_close FROM bars
            WHERE timeframe = getvariable('timeframe') AND source = getvariable('source') AND symbol IN (SELECT symbol FROM fresh)
        )
        SELECT symbol, s.place, (coalesce(f.session, k.session) - DATE '1970-01-01')::INTEGER AS day, coalesce(f.close, k.close) AS close,
               CASE WHEN f.ts IS NULL THEN k.adj_close ELSE f.adj_close END AS adjusted,
               f.ts IS NOT NULL AS is_fresh, k.ts IS NOT NULL AS is_kept,
               f.close = k.close AND f.adj_close IS DISTINCT FROM k.adj_close AS other_base
        FROM fresh f FULL JOIN kept k USING (symbol, ts)
        JOIN (SELECT session, row_number() OVER (ORDER BY session) AS place FROM sessions) s ON s.session = coalesce(f.session, k.session)
        WHERE symbol IN (SELECT symbol FROM kept) ORDER BY symbol, ts
        """
    ).fetchnumpy()
    symbols = np.asarray(rows["symbol"])
    if not len(symbols):
        return {}
    starts = np.flatnonzero(np.concatenate([[True], symbols[1:] != symbols[:-1]]))
    adjusted = np.asarray(np.ma.filled(np.ma.asarray(rows["adjusted"], dtype=np.float64), np.nan))
    other: NDArray[np.bool_] = np.asarray(np.ma.filled(np.ma.asarray(rows["other_base"], dtype=bool), False))
    fresh, kept = np.asarray(rows["is_fresh"]), np.asarray(rows["is_kept"])
    found = {}
    for start, end in zip(starts, [*starts[1:], len(symbols)], strict=True):
        part = slice(start, end)
        if np.isfinite(adjusted[part]).all() and (kept[part] & ~fresh[part]).any():
            f, k = fresh[part], kept[part]
            seam = np.concatenate([[False], ~((f[1:] & f[:-1]) | (k[1:] & k[:-1]))])
            follows = np.concatenate([[False], np.diff(np.asarray(rows["place"][part])) <= 1])
            days = np.asarray(rows["day"][part]).astype("datetime64[D]")
            found[str(symbols[start])] = _Series(
                days, np.asarray(rows["close"][part]), adjusted[part], seam, follows, not other[part].any()
            )
    return found


def _believable(series: _Series, row: int, split: float) -> bool:
    """Whether the step at `row` is of one night, and the price moved as it says it must have."""
    if not series.follows[row]:
        return False
    move = abs(np.log(series.close[row] / series.close[row - 1]))
    step = series.adjusted[row] / series.close[row] / (series.adjusted[row - 1] / series.close[row - 1])
    explained = abs(np.log(series.close[row] * step / series.close[row - 1])) < move
    return bool(explained if split != 1.0 or step > 1 + _DIVIDEND else True)


def _agrees(con: Connection, symbol: str, series: _Series, found: Inferred, inside: NDArray[np.bool_]) -> bool:
    """Whether file and store, each alone, saw the same actions inside as both together: else a base changes within."""
    rows = con.execute(
        """
        SELECT session, kind, value FROM acts WHERE symbol = $1 UNION
        SELECT session, kind, value FROM actions
        WHERE symbol = $1 AND source = getvariable('source') AND inferred
          AND session NOT IN (SELECT session FROM acts WHERE symbol = $1)
        """,
        [symbol],
    ).fetchall()
    known = {(session, kind): value for session, kind, value in rows}
    price = dict(zip(series.session.astype("datetime64[D]").tolist(), series.close.tolist(), strict=True))
    seams = set(series.session[series.is_seam].astype("datetime64[D]").tolist())
    seen = {(day, kind): value for day, kind, value in _listed(series, found, inside)}
    for key in known.keys() | seen.keys():
        day, kind = key
        if day in seams or day not in price:
            continue
        one, two = known.get(key, 0.0), seen.get(key, 0.0)
        limit = max(one, two) * _SAME if kind == "split" else max(max(one, two) * _SAME, price[day] * _SMALL)
        if abs(one - two) > limit:
            return False
    return True


def _at_seams(series: _Series) -> tuple[Inferred, NDArray[np.bool_]]:
    """The step at each seam, read from the two bars beside it alone."""
    rows, splits, dividends, sure = [], [], [], []
    for row in np.flatnonzero(series.is_seam).tolist():
        pair = slice(row - 1, row + 1)
        found = infer(series.close[pair], series.adjusted[pair])
        for split, dividend in zip(found.split.tolist(), found.dividend.tolist(), strict=True):
            rows.append(row)
            splits.append(split)
            dividends.append(dividend)
            sure.append(_believable(series, row, split))
    found = Inferred(np.array(rows, dtype=np.int64), np.array(splits), np.array(dividends), noisy=False)
    return found, np.array(sure, dtype=bool)


def _listed(series: _Series, found: Inferred, taken: NDArray[np.bool_]) -> list[tuple[date, str, float]]:
    actions: list[tuple[date, str, float]] = []
    for row, split, dividend in zip(found.row[taken], found.split[taken], found.dividend[taken], strict=True):
        actions += [(series.day(row), "split", float(split))] if split != 1.0 else []
        actions += [(series.day(row), "dividend", float(dividend))] if dividend > 0 else []
    return actions


def _add(con: Connection, symbol: str, series: _Series, found: Inferred, taken: NDArray[np.bool_]) -> None:
    actions = _listed(series, found, taken)
    if actions:
        days, kinds, values = zip(*actions, strict=True)
        con.insert(
            "acts",
            {
                "symbol": ("VARCHAR", [symbol] * len(actions)),
                "session": ("DATE", days),
                "kind": ("VARCHAR", kinds),
                "value": ("DOUBLE", values),
            },
        )
