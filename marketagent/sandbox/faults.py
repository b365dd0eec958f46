"""What goes wrong on purpose: rules from a TOML file or a preset, and which of them a request meets.

    seed = 7
    [[fault]]
    kind = "status"          # one of KINDS
    path = "/v2/aggs"        # requests whose path begins so; without it, all
    chance = 0.2             # of each request; 1 without it
    first = 2                # only the first times the very same request is asked; 0: always
    status = 429
    retry_after = "2"        # seconds, "date" (2 s ahead), or any text as it is; without it, none

Whether a request meets a rule depends on the seed, the rule, the request and how often this very request was asked
before, and on nothing else: not on time, nor on what others asked meanwhile. So a failure can be replayed.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from marketagent.errors import BadConfig, UsageError, did_you_mean
from marketagent.sandbox.bridge import dice

HTTP = {
    "latency": "wait `seconds` (half to whole) before answering",
    "status": "answer with `status` in the vendor's words, without doing anything",
    "error-200": "answer 200 with the vendor's body of a refusal",
    "reset-before": "break the connection (RST) without doing anything",
    "reset-after": "do it, then break the connection (RST) instead of answering",
    "cut": "announce the whole body, send half of it, close",
    "cut-chunked": "send half the body in chunks, close without the last one",
    "cut-gzip": "a gzip body with its end missing, its length as announced",
    "html": "answer 200 with a page of HTML",
    "empty": "answer 200 without a body",
    "drip": "send the body byte by byte over `seconds`",
    "duplicate": "rows of the page come twice",
    "reorder": "rows of the page come in another order",
    "loop": "the page names itself as the next one",
}
SOCKET = {
    "mute": "send nothing more after `frames` frames, and stay connected",
    "drop": "break the connection after `frames` frames",
    "duplicate-frames": "send frames twice",
    "reorder-frames": "swap a frame with the next",
    "garbage-frames": "send a frame that is no JSON before another",
}
KINDS = HTTP | SOCKET
PAGES = ("duplicate", "reorder", "loop")  # an order has no pages


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One fault and whom it befalls; see the module's text."""

    kind: str
    path: str = "/"
    method: str = ""
    chance: float = 1.0
    first: int = 0
    seconds: float = 0.0
    status: int = 503
    retry_after: str | None = None
    frames: int = 0


_NUMBERS: dict[str, tuple[type, ...]] = {
    "chance": (int, float),
    "seconds": (int, float),
    "first": (int,),
    "status": (int,),
    "frames": (int,),
}


class Faults:
    """Rules under a seed, with a count of what was asked before."""

    def __init__(self, rules: Sequence[Rule] = (), seed: int = 0) -> None:
        self.rules, self.seed = tuple(rules), seed
        self._asked: Counter[tuple[str, ...]] = Counter()

    def met(self, method: str, path: str, query: str = "") -> list[Rule]:
        """The rules this request meets: every latency, and at most one other. Counts the request."""
        if not self.rules or path.startswith("/_sandbox"):
            return []
        request = (method, path, query)
        self._asked[request] += 1
        nth = self._asked[request]
        found = [rule for place, rule in enumerate(self.rules) if self._meets(place, rule, request, nth)]
        others = [rule for rule in found if rule.kind != "latency"]
        return [rule for rule in found if rule.kind == "latency"] + others[:1]

    def _meets(self, place: int, rule: Rule, request: tuple[str, str, str], nth: int) -> bool:
        method, path, _ = request
        if (
            (rule.kind in SOCKET) != (method == "WS")
            or rule.method not in ("", method)
            or not path.startswith(rule.path)
        ):
            return False
        if (rule.first and nth > rule.first) or (rule.kind in PAGES and method != "GET"):
            return False
        return bool(dice(self.seed, place, *request, nth).random() < rule.chance)


PRESETS: dict[str, tuple[Rule, ...]] = {
    "flaky": (
        Rule(kind="latency", chance=0.2, seconds=0.3),
        Rule(kind="status", chance=0.05, status=503),
        Rule(kind="status", chance=0.05, status=429, retry_after="1"),
        Rule(kind="reset-before", chance=0.03),
        Rule(kind="cut", chance=0.03),
        Rule(kind="drop", chance=0.5, frames=200),
    ),
    "storm": (
        Rule(kind="status", chance=0.3, first=2, status=429, retry_after="1"),
        Rule(kind="status", chance=0.2, first=2, status=429, retry_after="date"),
        Rule(kind="status", chance=0.2, first=2, status=429, retry_after="soon"),
        Rule(kind="status", chance=0.2, first=2, status=429),
        Rule(kind="error-200", path="/v2/aggs", chance=0.2, first=2, status=429),
        Rule(kind="status", chance=0.2, first=2, status=503, retry_after="1"),
        Rule(kind="drop", chance=1.0, first=3, frames=20),
    ),
    "mute": (Rule(kind="mute", first=1, frames=30), Rule(kind="latency", chance=0.3, seconds=1.0)),
    "cruel": (
        Rule(kind="latency", chance=0.2, seconds=0.5),
        *(Rule(kind="status", chance=0.04, status=status) for status in (429, 500, 502, 503, 504)),
        Rule(kind="error-200", path="/v2/aggs", chance=0.04, status=429),
        Rule(kind="reset-before", chance=0.04),
        Rule(kind="reset-after", chance=0.04),
        Rule(kind="cut", chance=0.04),
        Rule(kind="cut-chunked", chance=0.04),
        Rule(kind="cut-gzip", chance=0.04),
        Rule(kind="html", chance=0.04),
        Rule(kind="empty", chance=0.02),
        Rule(kind="drip", chance=0.02, seconds=5.0),
        Rule(kind="duplicate", chance=0.05),
        Rule(kind="reorder", chance=0.05),
        Rule(kind="duplicate-frames", chance=0.4),
        Rule(kind="reorder-frames", chance=0.4),
        Rule(kind="garbage-frames", chance=0.4),
        Rule(kind="mute", chance=0.4, frames=100),
        Rule(kind="drop", chance=0.7, frames=150),
    ),
}


def load(name: str, seed: int) -> Faults:
    """The preset `name`, or the rules of the TOML file `name`; `seed` counts where the file names none."""
    if name in PRESETS:
        return Faults(PRESETS[name], seed)
    path = Path(name).expanduser()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(
            f"--faults {name!r} is no file and none of {', '.join(PRESETS)}{did_you_mean(name, PRESETS)}"
        ) from error
    except OSError as error:
        raise UsageError(f"--faults {name}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{name}: {error}") from error
    return _parsed(table, name, seed)


def _parsed(table: Mapping[str, Any], name: str, seed: int) -> Faults:
    for key in table:
        if key not in ("seed", "fault"):
            raise BadConfig(f"{name}: unknown setting {key!r}{did_you_mean(key, ('seed', 'fault'))}")
    rules, own = table.get("fault", []), table.get("seed", seed)
    if not isinstance(rules, list) or not all(isinstance(each, dict) for each in rules):
        raise BadConfig(f"{name}: fault must be tables, e.g. [[fault]] then kind = 'latency'")
    if not isinstance(own, int) or isinstance(own, bool):
        raise BadConfig(f"{name}: seed is {own!r}; it must be a whole number")
    return Faults([_rule(each, f"{name}: fault {n}") for n, each in enumerate(rules, 1)], own)


def _rule(table: dict[str, Any], where: str) -> Rule:
    known = {each.name: _NUMBERS.get(each.name, (str,)) for each in fields(Rule)}
    kind = table.get("kind")
    if kind not in KINDS:
        raise BadConfig(f"{where}: kind is {kind!r}{did_you_mean(str(kind), KINDS)} (there are: {', '.join(KINDS)})")
    for key, value in table.items():
        if key not in known:
            raise BadConfig(f"{where}: unknown setting {key!r}{did_you_mean(key, known)}")
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise BadConfig(f"{where}: {key} is {value!r}; it must be {'a number' if key in _NUMBERS else 'text'}")
        if key in _NUMBERS and not 0 <= float(table[key]) < 1e6:
            raise BadConfig(f"{where}: {key} is {value!r}; it must be at least 0 and below a million")
    rule = Rule(**table)
    if rule.chance > 1:
        raise BadConfig(f"{where}: chance is {rule.chance!r}; it must be from 0 to 1")
    if not 200 <= rule.status <= 599:
        raise BadConfig(f"{where}: status is {rule.status}; it must be from 200 to 599")
    return rule
