"""JSON as RFC 8259 means it, and nothing that Python's parser takes beyond it.

Refused: NaN and Infinity, numbers too large for a float (they would become infinite), a name twice in one object
(the second would win), half surrogates (no file takes them), nesting without end, anything after the value, bytes
that are not UTF-8, and a value that is neither object nor array: a cut ``123`` would still be ``12``.
A byte order mark is skipped: the RFC allows a reader that (section 8.1), and some servers send it.

jiter reads what is well formed, six times as fast; it is told to refuse all of that but numbers too large. Whatever it
refuses, and whatever could hold such a number, Python's own parser reads again: that one says what is wrong.
"""

import json
import math
import re
from typing import Any

import jiter

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_BOM = b"\xef\xbb\xbf"
_FLAT = bytes(48 if 48 <= code < 58 else 101 if code == 69 else code for code in range(256))  # digits as 0, E as e
_LARGE = (b"e000", b"0" * 200)  # how a number that no float holds looks then: over 10^308, so one of the two


class NotJson(ValueError):
    """`text` is no JSON at all, or not all of it: another try may get it whole."""


class NotStrict(ValueError):
    """The text is whole, but a value in it is none that JSON has: another try will get the same."""


def parsed(data: bytes) -> Any:
    """The object or array in `data`; raises NotJson or NotStrict.

    >>> parsed(b'{"c": 1.5, "v": 7.09e7}')
    {'c': 1.5, 'v': 70900000.0}
    >>> parsed(b'{"c": 1e400}')
    Traceback (most recent call last):
    marketagent.web.strict.NotStrict: the number 1e400 is too large
    """
    data = data.removeprefix(_BOM)
    flat = data.translate(_FLAT, b"+")
    if any(sign in flat for sign in _LARGE):
        return _slowly(data)
    try:
        value = jiter.from_json(data, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError:
        return _slowly(data)
    return value if isinstance(value, dict | list) else _slowly(data)


def _slowly(data: bytes) -> Any:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotJson(f"byte {error.start + 1} is not UTF-8") from None
    try:
        value = _decoder.decode(text)
        if "\\u" in text and _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at character {error.pos + 1} of {len(text)}") from None
    except UnicodeEncodeError:
        raise NotStrict("half of a surrogate pair in a text") from None
    except RecursionError:
        raise NotStrict("nested too deeply") from None
    if not isinstance(value, dict | list):
        raise NotJson("neither an object nor a list")
    return value


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise NotStrict(f"the number {text[:40]} is too large")
    return number


def _int(text: str) -> int:
    if len(text) > 309:  # more than any float holds, and Python itself stops at 4300 digits
        raise NotStrict(f"the number {text[:40]} is too large")
    return int(text)


def _constant(text: str) -> Any:
    raise NotStrict(f"{text} is not a number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise NotStrict(f"the name {twice[:40]!r} stands twice in one object")
    return found


_decoder = json.JSONDecoder(
    parse_float=_float, parse_int=_int, parse_constant=_constant, object_pairs_hook=_object, strict=True
)
