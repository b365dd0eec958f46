"""A record of a live stream on one line of a terminal."""

from datetime import datetime
from typing import Any

from marketagent.show import clean


def live_line(values: dict[str, Any]) -> str:
    """One record of a live stream on one line: the time in New York, then what a trader reads first.

    >>> live_line({"kind": "trade", "ts": "2026-11-20T14:31:00.5Z", "symbol": "AAPL", "price": 150.25, "size": 100.0})
    '09:31:00  AAPL    trade     150.25 x 100\\n'
    """
    from zoneinfo import ZoneInfo  # only a live stream has lines, and every command imports this file

    at = datetime.fromisoformat(values["ts"]).astimezone(ZoneInfo("America/New_York"))
    if values["kind"] == "bar":
        prices = "  ".join(f"{values[name]:>10,.2f}" for name in ("open", "high", "low", "close"))
        rest = f"{prices}  {values['volume']:>12,.0f}"
    elif values["kind"] == "trade":
        rest = f"trade {values['price']:>10,.2f} x {values['size']:,g}"
    else:
        rest = (
            f"quote {values['bid']:>10,.2f} x {values['bid_size']:,g} | {values['ask']:,.2f} x {values['ask_size']:,g}"
        )
    return f"{at:%H:%M:%S}  {clean(values['symbol']):<6}  {rest}\n"
