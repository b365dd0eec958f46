"""What each vendor says when it refuses, by whose path was asked: bodies for faults, the same as its own file sends."""

import json
from typing import Any

POLYGON = (
    "/v2/aggs",
    "/v2/last",
    "/v2/reference",
    "/v2/snapshot",
    "/v3/",
    "/vX/",
    "/stocks",
    "/v1/open-close",
    "/v1/market",
)
TOO_MANY = (
    "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue."
    " https://polygon.io/pricing"
)
_TEXTS = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}


def refusal(path: str, status: int) -> bytes:
    """The body of a refusal with `status` at `path`."""
    return json.dumps(_body(path, status), separators=(",", ":")).encode()


def _body(path: str, status: int) -> dict[str, Any]:
    if path.startswith(POLYGON):
        text = TOO_MANY if status == 429 else _TEXTS.get(status, "an error of the sandbox")
        return {"status": "ERROR", "request_id": "0" * 32, "error": text}
    if path.startswith("/v2/") or path.startswith(("/v1/corporate-actions", "/v1beta1/")):
        if status == 429:
            return {"code": 42910000, "message": "rate limit exceeded."}
        return {"code": status * 100_000 + 10_000, "message": _TEXTS.get(status, "an error of the sandbox").lower()}
    return {"error": {"type": "error", "message": _TEXTS.get(status, "rate limit exceeded")}}
