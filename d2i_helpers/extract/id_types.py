"""Ids of several types: whole numbers in one table, text in a second, UUIDs in a third.

Rows are joined here by the text of an id (`document.source_rows.key_text`). PostgreSQL refuses to
compare columns of two types, SQL Server and Oracle turn the text into a number and stop at the
first that is none, and SQLite compares them by rules of its own. So where two columns that are
compared have different types, both are compared as the text that Python makes of them. Elsewhere
they are compared as they are, since an index serves no column that is converted.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Engine, cast, func
from sqlalchemy import types as sqltypes
from sqlalchemy.types import TypeEngine

from d2i_helpers.database import dialects
from d2i_helpers.database.dialects import Characters

ID_CHARACTERS = 400  # of an id that is looked at as text
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)  # as Python writes it; 64 bits take it

Place = tuple[str, str]  # table and column, by the names of the specification


class Kind(Enum):
    """What an id is to the database."""

    TEXT = "text"
    NUMBER = "number"
    UUID = "uuid"


def kind_of(deployed: TypeEngine[Any] | None) -> Kind | str | None:
    """The kind of a deployed column's type; another type's own name; None where it is not known."""
    if deployed is None or isinstance(deployed, sqltypes.NullType):
        return None
    if isinstance(deployed, sqltypes.Uuid):  # before text: SQL Server's is both to SQLAlchemy
        return Kind.UUID
    if isinstance(deployed, sqltypes.String):
        return Kind.TEXT
    # `Float` is a `Numeric` to SQLAlchemy 2.0 alone
    if isinstance(deployed, sqltypes.Integer | sqltypes.Numeric | sqltypes.Float):
        return Kind.NUMBER
    return type(deployed).__name__


class IdTypes:
    """The types of the columns that hold ids, as they are deployed."""

    def __init__(self, engine: Engine) -> None:
        self._dialect = dialects.of(engine)
        self._types: dict[Place, TypeEngine[Any]] = {}

    def note(self, place: Place, deployed: TypeEngine[Any] | None) -> None:
        """Note the type of a column; None where it is not known."""
        if deployed is not None:
            self._types[place] = deployed

    def deployed(self, place: Place) -> TypeEngine[Any] | None:
        """The type of a column; None where it is not known."""
        return self._types.get(place)

    def kind(self, place: Place) -> Kind | str | None:
        """The kind of a column's ids."""
        return kind_of(self._types.get(place))

    def is_as_python_writes(self, place: Place) -> bool:
        """Whether the database writes an id as text as Python writes the driver's value.

        So it is for texts, but for those that it fills up with blanks, whole numbers and UUIDs.
        """
        deployed = self._types.get(place)
        if isinstance(deployed, sqltypes.CHAR):
            return False
        return isinstance(deployed, sqltypes.String | sqltypes.Integer | sqltypes.Uuid)

    def alike(self, one: Place, other: Place) -> bool:
        """Whether the database compares two columns as they are; so it does with an unknown one."""
        kinds = {self.kind(one), self.kind(other)}
        return len(kinds) == 1 or None in kinds

    def folds_capitals(self, pairs: Iterable[tuple[Place, Place]]) -> bool:
        """Whether one of some compared pairs is a UUID and a text, whose capitals say nothing."""
        return any(
            not self.alike(one, other) and Kind.UUID in (self.kind(one), self.kind(other))
            for one, other in pairs
        )

    def text(self, column: ColumnElement, place: Place) -> ColumnElement:
        """A column of ids as `key_text` writes them, but for blanks at their ends."""
        as_text: ColumnElement = cast(column, Characters(ID_CHARACTERS))
        deployed = self._types.get(place)
        if kind_of(deployed) is not Kind.NUMBER or _is_whole(deployed):
            return as_text
        return self._dialect.without_zero_decimals(column, as_text)

    def compared(self, one: ColumnElement, place: Place, other: Place) -> ColumnElement:
        """A column as it is compared with another one."""
        if self.alike(place, other):
            return one
        # what is text already stays bare, so that its index serves
        text = one if self.kind(place) is Kind.TEXT else self.text(one, place)
        return func.lower(text) if self.folds_capitals([(place, other)]) else text

    def of_values(self, place: Place) -> TypeEngine[Any] | None:
        """A type that holds every id of a column as it is; None where none is known to.

        The deployed type may be too narrow for what the ids are compared with.
        """
        deployed = self._types.get(place)
        match kind_of(deployed):
            case Kind.TEXT:
                return sqltypes.Text()
            case Kind.UUID:
                return sqltypes.Uuid()
            case Kind.NUMBER if isinstance(deployed, sqltypes.Integer):
                return sqltypes.BigInteger()
            case _:
                return None

    def values(self, place: Place, ids: Iterable[str]) -> list[Any]:
        """Ids in the type of a column; one that its type cannot hold is left out."""
        kind = self.kind(place)
        if kind is Kind.NUMBER:
            return [int(text) for text in ids if _WHOLE.fullmatch(text)]
        if kind is Kind.UUID:
            return [text for text in ids if _is_uuid(text)]
        return list(ids)


def _is_whole(deployed: Any) -> bool:
    """Whether a type of numbers holds whole ones only."""
    return isinstance(deployed, sqltypes.Integer) or (
        not isinstance(deployed, sqltypes.Float) and deployed.scale == 0
    )


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
