"""Market Agent: small commands for one person's systematic trading of US equities."""

from os import path as _path

# In a bare checkout `commands/` and `strategies/` lie beside this folder; installed, they lie inside it.
if _path.exists(_path.join(_path.dirname(_path.dirname(__file__)), "pyproject.toml")):
    __path__.append(_path.dirname(_path.dirname(__file__)))
