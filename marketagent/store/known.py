"""Facts as the store knew them at an instant: the rows of then, with those that were superseded since."""

from datetime import UTC, datetime


def as_known(table: str, known_at: datetime | None) -> str:
    """`table` as it stands, or as it stood at $moment: a FROM item for SQL that is given `moment`."""
    if known_at is None:
        return table
    return f"""(SELECT * FROM {table} WHERE known_at <= $moment UNION ALL
                SELECT * EXCLUDE superseded_at FROM superseded_{table}
                WHERE known_at <= $moment AND superseded_at > $moment)"""


def moment(known_at: datetime | None) -> dict[str, datetime]:
    """The parameter that `as_known` asks for, if it does."""
    return {} if known_at is None else {"moment": utc(known_at)}


def utc(instant: datetime) -> datetime:
    """An aware instant as the store writes it: naive, in UTC."""
    return instant.astimezone(UTC).replace(tzinfo=None)
