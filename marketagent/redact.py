"""The home of what no line may show: the user's keys, taken out of every text on its way to a screen or a log."""

import os
from contextlib import suppress
from urllib.parse import quote

from marketagent.config import ALIASES, SECRETS, Settings
from marketagent.errors import MarketAgentError

_SHORTEST = 6  # a shorter value is no key, and taking it out would make holes in ordinary words


def redacted(text: str) -> str:
    """`text` with each known key, plain or percent-encoded, replaced by ``***``."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets() -> set[str]:
    values = {os.environ.get(variable, "") for variable in (*SECRETS.values(), *ALIASES)}
    # A configuration that does not load gave no key to anyone; and saying an error must not raise another.
    with suppress(MarketAgentError, OSError, RuntimeError):
        values |= set(Settings.load().keys.values())
    stripped = {str(value).strip() for value in values}
    return {form for value in stripped if len(value) >= _SHORTEST for form in (value, quote(value, safe=""))}
