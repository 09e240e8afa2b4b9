"""The types of parameters, as pyodbc is told them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Integer, String
from sqlalchemy import types as sqltypes
from sqlalchemy.types import TypeEngine

_MOST_OF_NVARCHAR = 4000  # characters; a longer text is of NVARCHAR(max)
_MOST_OF_VARBINARY = 8000  # bytes
_ANY_LENGTH = 0  # how pyodbc is told (max)
COLUMN_TYPES = "d2i_column_types"  # of the parameters of a statement that is handed over as text


def types_of(context: Any) -> list[TypeEngine[Any]]:
    """The type of each parameter of a statement, in order; empty where there are none."""
    given = context.execution_options.get(COLUMN_TYPES)
    if given is not None:
        return [kind._unwrapped_dialect_impl(context.dialect) for kind in given]
    compiled = context.compiled
    if context.isddl or compiled is None or not compiled.positiontup:
        return []
    types: list[TypeEngine[Any]] = []
    for name in compiled.positiontup:
        bound = compiled.binds[name]
        if bound in compiled.literal_execute_params:
            continue
        repeated = context._expanded_parameters
        number = len(repeated[name]) if name in repeated else 1
        types += [_own(bound.type, context.dialect)] * number
    return types


def _own(kind: TypeEngine[Any], dialect: Any) -> TypeEngine[Any]:
    """The type as the dialect has it; VARCHAR as it is, which would be any text there."""
    if isinstance(kind, sqltypes.VARCHAR):
        return kind
    return kind._unwrapped_dialect_impl(dialect)


def length_in_utf16(values: Iterable[Any]) -> int:
    """The most UTF-16 units of any of these texts, as SQL Server counts them."""
    texts = [value for value in values if isinstance(value, str)]
    longest = max(map(len, texts), default=0)
    if all(text.isascii() for text in texts if len(text) > longest // 2):
        return longest
    return max(len(text.encode("utf-16-le", "surrogatepass")) // 2 for text in texts)


def odbc_type(dbapi: Any, kind: TypeEngine[Any], values: Sequence[Any]) -> Any:
    """Type, size and digits of a parameter; None where only its value tells the type.

    A text is given its column's length, so that one plan serves all rows; where a value is
    longer, any length, so that the server compares or refuses it and no driver cuts it. Only a text
    that every code page has is ever of VARCHAR.
    """
    if isinstance(kind, String):
        size = kind.length or _ANY_LENGTH
        if size > _MOST_OF_NVARCHAR or length_in_utf16(values) > size:
            size = _ANY_LENGTH
        narrow = isinstance(kind, sqltypes.VARCHAR) and all(
            value.isascii() for value in values if isinstance(value, str)
        )
        return dbapi.SQL_VARCHAR if narrow else dbapi.SQL_WVARCHAR, size, 0
    if isinstance(kind, sqltypes._Binary):
        size = kind.length or _ANY_LENGTH
        # pyodbc has an object of its own for a binary null
        sizes = [len(value) for value in values if isinstance(value, bytes | bytearray)]
        if size > _MOST_OF_VARBINARY or max(sizes, default=0) > size:
            size = _ANY_LENGTH
        return dbapi.SQL_VARBINARY, size, 0
    if isinstance(kind, BigInteger):
        return dbapi.SQL_BIGINT, 19, 0
    if isinstance(kind, Integer):
        return dbapi.SQL_BIGINT, 19, 0  # a count may be greater than its column takes
    if isinstance(kind, sqltypes.DateTime):
        return dbapi.SQL_TYPE_TIMESTAMP, 27, 7  # datetime2, which becomes datetime by itself
    if isinstance(kind, sqltypes.Float):
        return dbapi.SQL_DOUBLE, 53, 0
    return None
