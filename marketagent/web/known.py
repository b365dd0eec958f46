"""The vendors we talk to, as the client needs them: from the settings, with the key in a header and its limits."""

from marketagent.config import SECRETS, Secret, Settings
from marketagent.errors import NotPermitted
from marketagent.limits import Limit
from marketagent.places import Place
from marketagent.web.vendor import Vendor


class NoKey(NotPermitted):
    """No key is set for a vendor."""

    def __init__(self, vendor: str, *names: str) -> None:
        variables = " and ".join(SECRETS[name] for name in names)
        super().__init__(f"no key for {vendor}: set {variables}, or [keys] in config.toml")


def key(settings: Settings, name: str, vendor: str, *all_names: str) -> Secret:
    """The key `name`; raises NoKey if it is not set."""
    if not settings.keys.get(name):
        raise NoKey(vendor, *(all_names or (name,)))
    return settings.keys[name]


def polygon(settings: Settings) -> Vendor:
    """Polygon's REST API, by either of its names (Massive since 2025-10-30)."""
    place = settings.places["polygon"]
    return Vendor(
        name="polygon",
        base_url=place.base_url,
        headers={"authorization": Secret(f"Bearer {key(settings, 'polygon', 'polygon')}")},
        limits=_limits("polygon", place),
        origins=("https://api.polygon.io", "https://api.massive.com"),
        reading=_polygon_status,
    )


def alpaca_data(settings: Settings) -> Vendor:
    """Alpaca's market data."""
    place = settings.places["alpaca"]
    return Vendor(
        name="alpaca",
        base_url=place.data_url or place.base_url,
        headers=_alpaca_headers(settings),
        limits=_limits("alpaca-data", place),
    )


def alpaca_trading(settings: Settings) -> Vendor:
    """Alpaca's accounts and orders; its data counts apart."""
    place = settings.places["alpaca"]
    return Vendor(
        name="alpaca-trading",
        base_url=place.base_url,
        headers=_alpaca_headers(settings),
        limits=_limits("alpaca-trading", place),
    )


def _alpaca_headers(settings: Settings) -> dict[str, Secret]:
    both = ("alpaca_id", "alpaca_secret")
    return {
        "apca-api-key-id": key(settings, "alpaca_id", "alpaca", *both),
        "apca-api-secret-key": key(settings, "alpaca_secret", "alpaca", *both),
    }


def _limits(name: str, place: Place) -> tuple[Limit, ...]:
    return (Limit(name, int(place.calls_per_minute), 60.0),) if place.calls_per_minute >= 1 else ()


def _polygon_status(status: int, body: object) -> int:
    """Polygon sends the body of an error with 200, too: an exceeded limit above all (fact sheet, 4)."""
    if status != 200 or not isinstance(body, dict):
        return status
    said = str(body.get("status", "OK"))
    text = f"{body.get('error', '')} {body.get('message', '')}".lower()
    if said == "NOT_AUTHORIZED":
        return 403
    if said == "NOT_FOUND":
        return 404
    if said != "ERROR":
        return status
    if "exceeded" in text:
        return 429
    return 401 if "api key" in text else 500
