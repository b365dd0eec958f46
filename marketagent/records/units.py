"""What the fields of records are made of."""

from typing import Annotated, Literal

from annotated_types import Ge, Le

VERSION = 1
CASH = "$USD"  # stands for cash among positions; no ticker looks like it

Status = Literal["ok", "partial", "error"]
Action = Literal["buy", "hold", "sell"]
Unit = Annotated[float, Ge(-1), Le(1)]
Share = Annotated[float, Ge(0), Le(1)]
