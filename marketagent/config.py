"""The home of ``os.environ`` and of ``config.toml``: what a user set, checked once, before anything runs.

A value comes from the environment if it is there, else from ``$MA_HOME/config.toml``, else from the defaults
below. An unknown key, a wrong type or a secret in a file that others can read stops the command: no default
stands in for a limit on money that was mistyped.
"""

import os
import stat
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from marketagent.clock import Clock, clock
from marketagent.errors import BadConfig, NotPermitted, did_you_mean
from marketagent.places import DEFAULTS, Place, place
from marketagent.universes import BUILT_IN

CONFIG = "config.toml"
REASONS = ("no-key", "not-entitled", "unavailable")  # why the next source of a chain may be asked
SECRETS = {  # name in [keys] -> environment variable, as each vendor's own SDK calls it
    "polygon": "POLYGON_API_KEY",
    "alpaca_id": "APCA_API_KEY_ID",
    "alpaca_secret": "APCA_API_SECRET_KEY",
    "bullaware": "BULLAWARE_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
}
ALIASES = {"MASSIVE_API_KEY": "polygon"}  # what the vendor's newer SDK calls it; the older name goes before it


class Secret(str):
    """A key: usable as text, never shown by repr or logs of records."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The effective settings of one command.

    `now` is taken once from `clock`, at the start, so that one command has one time; what runs on asks the clock again.
    `sources` is the chain of ``ma fetch``: the next is asked only for a reason in `fallback_on`. `origin` tells for
    each setting where it came from: ``default``, ``config.toml`` or the environment variable.
    """

    home: Path
    now: datetime
    account: str = "paper"
    cash: float = 100_000.0
    costs: str = "ibkr-fixed"
    slippage_bps: float = 0.0
    slippage: str = ""
    borrow_rate: float = 0.0
    margin_rate: float = 0.0
    sources: tuple[str, ...] = ("polygon", "alpaca")
    fallback_on: tuple[str, ...] = ("no-key",)
    cache: str = "disk:"
    concurrency: float = 100.0
    max_wait_s: float = 120.0
    max_age_s: float = 900.0
    busy_timeout_s: float = 60.0
    watchlists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fees: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=lambda: dict(DEFAULTS))
    clock: Clock = field(default_factory=Clock, repr=False)
    keys: Mapping[str, Secret] = field(default_factory=dict, repr=False)
    origin: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, now: datetime | None = None) -> "Settings":
        """Read the environment and the config file; raises BadConfig with the name and the value at fault."""
        environ = os.environ if environ is None else environ
        home, home_origin = _home(environ)
        path = config_file(home, environ)
        values = _read(path)
        keys, key_origins = _keys(values.pop("keys", {}), path, environ)
        watchlists = _watchlists(values.pop("watchlists", {}), path)
        fees = _fees(values.pop("fees", {}), path)
        places, place_origins = _places(values.pop("vendors", {}), path, environ)
        ticking = clock(environ.get("MA_CLOCK", ""))
        _refuse_real(ticking, places)
        checked: dict[str, Any] = {name: _checked(name, value, path) for name, value in values.items()}
        origin = {"home": home_origin, **dict.fromkeys(checked, CONFIG), **key_origins, **place_origins}
        origin |= {f"watchlists.{name}": CONFIG for name in watchlists} | {f"fees.{name}": CONFIG for name in fees}
        return cls(
            home=home,
            now=now or ticking(),
            watchlists={**BUILT_IN, **watchlists},
            fees=fees,
            places=places,
            clock=ticking,
            keys=keys,
            origin=origin,
            **checked,
        )


def config_file(home: Path, environ: Mapping[str, str] | None = None) -> Path:
    """Where the settings of `home` are: in it, unless MA_CONFIG names another file."""
    environ = os.environ if environ is None else environ
    return Path(environ["MA_CONFIG"]).absolute() if environ.get("MA_CONFIG") else home / CONFIG


def _home(environ: Mapping[str, str]) -> tuple[Path, str]:
    if chosen := environ.get("MA_HOME"):
        try:
            return Path(chosen).expanduser().absolute(), "MA_HOME"
        except RuntimeError as error:
            raise BadConfig(f"MA_HOME is {chosen!r}: {error}") from error
    from platformdirs import user_data_path  # 30 ms, and most users set MA_HOME

    return user_data_path("market-agent", appauthor=False), "default"


def _read(path: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadConfig(f"{path} is not a file")
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        return {}  # the home is a file: said where the home is opened, with the right code
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: {error}") from error
    except PermissionError as error:
        raise NotPermitted(f"{path} cannot be read: permission denied") from error
    except OSError as error:
        raise BadConfig(f"{path}: cannot be read: {error.strerror}") from error


_SIMPLE: dict[str, type] = {
    "account": str,
    "cash": float,
    "costs": str,
    "slippage_bps": float,
    "slippage": str,
    "borrow_rate": float,
    "margin_rate": float,
    "sources": tuple,
    "fallback_on": tuple,
    "cache": str,
    "concurrency": float,
    "max_wait_s": float,
    "max_age_s": float,
    "busy_timeout_s": float,
}


def _checked(name: str, value: Any, path: Path) -> str | float | tuple[str, ...]:
    if name not in _SIMPLE:
        known = [*_SIMPLE, "watchlists", "fees", "vendors", "keys"]
        raise BadConfig(f"{path}: unknown setting {name!r}{did_you_mean(name, known)}")
    if _SIMPLE[name] is tuple:
        if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
            return _reasons(value, path) if name == "fallback_on" else tuple(value)
        if name == "fallback_on" and value == []:
            return ()
        raise BadConfig(f"{path}: {name} is {value!r}; it must be a list of names")
    if _SIMPLE[name] is str:
        if isinstance(value, str):
            return value
        raise BadConfig(f"{path}: {name} is {value!r}; it must be text")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max:
        return float(value)
    raise BadConfig(f"{path}: {name} is {value!r}; it must be a finite number of at least 0")


def _reasons(names: list[str], path: Path) -> tuple[str, ...]:
    for name in names:
        if name not in REASONS:
            raise BadConfig(
                f"{path}: fallback_on has {name!r}{did_you_mean(name, REASONS)} (there are: {', '.join(REASONS)})"
            )
    return tuple(names)


def _places(table: Any, path: Path, environ: Mapping[str, str]) -> tuple[dict[str, Place], dict[str, str]]:
    """Where each vendor is, from [vendors.NAME] and the environment, and the origin of what is no default."""
    if not isinstance(table, dict):
        raise BadConfig(f"{path}: vendors must be tables, e.g. [vendors.polygon] then calls_per_minute = 5")
    for name in table:
        if name not in DEFAULTS:
            raise BadConfig(f"{path}: unknown vendor {name!r} in [vendors]{did_you_mean(name, DEFAULTS)}")
    places: dict[str, Place] = {}
    origins: dict[str, str] = {}
    for name in DEFAULTS:
        places[name], found = place(name, table.get(name, {}), path, environ)
        origins |= {f"vendors.{name}.{setting}": origin for setting, origin in found.items()}
    return places, origins


def _refuse_real(ticking: Clock, places: Mapping[str, Place]) -> None:
    """A rehearsal asks a stand-in: real bars under an invented time, or the other way round, would be stored for ever."""
    real = [name for name, found in places.items() if not found.is_local]
    if ticking.is_rehearsal and real:
        raise BadConfig(
            f"MA_CLOCK is the clock of a rehearsal, but {' and '.join(real)} would be asked for real;"
            ' set all of it with: eval "$(ma sandbox env)"; or unset MA_CLOCK'
        )


def _watchlists(table: Any, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise BadConfig(f"{path}: watchlists must be a table, e.g. [watchlists] then mine = ['AAPL', 'MSFT']")
    for name, symbols in table.items():
        if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
            raise BadConfig(f"{path}: watchlist {name!r} must be a list of quoted symbols")
    return {name: tuple(symbols) for name, symbols in table.items()}


def _fees(table: Any, path: Path) -> dict[str, Any]:
    """The user's price lists as they stand; their numbers are checked where costs are (``fees.checked``)."""
    if not isinstance(table, dict) or not all(isinstance(charges, dict) for charges in table.values()):
        raise BadConfig(f"{path}: fees must be tables, e.g. [fees.ibkr-fixed] then per_share = 0.004")
    return table


def _keys(table: Any, path: Path, environ: Mapping[str, str]) -> tuple[dict[str, Secret], dict[str, str]]:
    if not isinstance(table, dict):
        raise BadConfig(f"{path}: keys must be a table, e.g. [keys] then polygon = '…'")
    for name in table:
        if name not in SECRETS:
            raise BadConfig(f"{path}: unknown key {name!r} in [keys]{did_you_mean(name, SECRETS)}")
        if not isinstance(table[name], str):
            raise BadConfig(f"{path}: the key {name!r} must be text")
    if table and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise BadConfig(f"{path} holds keys and others may read it; run: chmod 600 {path}")
    keys = {name: Secret(value) for name, value in table.items()}
    origins = {f"keys.{name}": CONFIG for name in keys}
    for variable, name in [*ALIASES.items(), *((variable, name) for name, variable in SECRETS.items())]:
        if environ.get(variable):
            keys[name] = Secret(environ[variable])
            origins[f"keys.{name}"] = variable
    return keys, origins


def effective(settings: Settings) -> list[tuple[str, Any, str]]:
    """(name, value, origin) of every setting, in order; a key is shown as ``(set)``, never its text."""
    plain = [
        f.name
        for f in fields(settings)
        if f.name not in {"now", "watchlists", "fees", "places", "clock", "keys", "origin"}
    ]
    rows = [(name, getattr(settings, name), settings.origin.get(name, "default")) for name in plain]
    rows = [(name, _shown(value), origin) for name, value, origin in rows]
    if settings.clock.is_rehearsal:
        rows.append(("clock", settings.clock.text, "MA_CLOCK"))
    for name, found in settings.places.items():
        for setting, value in vars(found).items():
            if value is not None:
                label = f"vendors.{name}.{setting}"
                rows.append((label, value, settings.origin.get(label, "default")))
    for name, symbols in settings.watchlists.items():
        mine = f"watchlists.{name}" in settings.origin
        shown = list(symbols) if mine else f"{len(symbols)} symbols"
        rows.append((f"watchlists.{name}", shown, settings.origin.get(f"watchlists.{name}", "default")))
    rows += [(f"fees.{name}", dict(charges), CONFIG) for name, charges in settings.fees.items()]
    return rows + [(f"keys.{name}", "(set)", settings.origin[f"keys.{name}"]) for name in settings.keys]


def _shown(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value
