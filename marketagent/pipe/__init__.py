"""Sealed streams: ``writer`` writes them, ``reader`` reads them strictly, ``given`` finds the symbols of a stage, and
``live`` is for those that do not wait for the end."""

from marketagent.pipe.given import Input, symbols_in
from marketagent.pipe.live import Incoming, series
from marketagent.pipe.reader import Sealed, check, read
from marketagent.pipe.writer import Format, Out, instant_text, new_run_id, sealed

__all__ = [
    "Format",
    "Incoming",
    "Input",
    "Out",
    "Sealed",
    "check",
    "instant_text",
    "new_run_id",
    "read",
    "sealed",
    "series",
    "symbols_in",
]
