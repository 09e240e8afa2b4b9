"""Types of columns that the databases write in different ways."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, LargeBinary, String
from sqlalchemy.dialects.oracle import RAW
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from d2i_helpers.database.dialects.registry import named


class RowNumber(TypeDecorator[int]):
    """The type of a key that the database counts up."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # as it is: Oracle's `type_descriptor` would take 64 bits for any integer
        return named(dialect.name).row_number


# SHA-256. Oracle compares no BLOB, which is what it would be there.
HASH = LargeBinary(32).with_variant(RAW(32), "oracle")


class Characters(TypeDecorator[str]):
    """The type of a column with text of any language."""

    impl = String
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        """``length``: characters; None for any length."""
        super().__init__(length)
        self.characters = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return named(dialect.name).characters(self.characters)
