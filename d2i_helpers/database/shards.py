"""Which shard a person belongs to: one expression, computed in the database.

It is the same over the source's ids and over those of the staging table, so that every stage gives
a child to the same process. Ids are compared without outer blanks and in small letters, numbers as
text. Where there is no id, or a blank one, it is the first shard, so that such rows are counted
once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    case,
    cast,
    func,
    literal,
    literal_column,
    make_url,
    or_,
    select,
)

from d2i_helpers.database import dialects
from d2i_helpers.database.dialects import Characters
from d2i_helpers.errors import SettingsError
from d2i_helpers.settings import Settings, Shard

_ID_CHARACTERS = 200  # no longer id is staged, and the list of who needs attention keeps so many
_PROBE = "probe"  # a text by which is found how a database hashes texts
_ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")
_OTHER_BLANKS = ("\t", "\n", "\r", "\xa0")
BLANKS = "".join((" ", *_OTHER_BLANKS))  # which make no difference at the ends of an id


def condition(
    engine: Engine, shard: Shard, person_id: ColumnElement
) -> tuple[ColumnElement[bool], ...]:
    """What a statement's rows have to fulfil to be of the shard's children.

    Args:
        person_id: of a row; a number of a type that may have decimals first becomes the text that
            it is compared by.

    Returns:
        One condition; none for the whole, whose statements stay as they are.

    Raises:
        SettingsError: this database cannot be worked on in shards.
    """
    if shard.is_whole:
        return ()
    require_shards(engine)
    text, hashed = _hashed(engine, person_id)
    blank = or_(text.is_(None), text == literal_column("''"))
    number = case((blank, literal_column("0")), else_=hashed % literal_column(f"{shard.of:d}"))
    return (number == literal_column(f"{shard.number - 1:d}"),)


def _hashed(engine: Engine, person_id: ColumnElement) -> tuple[ColumnElement, ColumnElement[int]]:
    """An id as it is compared, and the number that it is hashed to."""
    text = func.lower(_trimmed(cast(person_id, Characters(_ID_CHARACTERS))))
    hashed = dialects.of(engine).shard_hash(text)
    assert hashed is not None
    return text, hashed


def whose(connection: Connection, shard: Shard) -> Callable[[str], bool]:
    """Says of plain ids (letters of ASCII and figures) whether they are of the shard's children.

    For many ids that are in no table, such as pseudonyms: the database need not be asked.

    Raises:
        SettingsError: this database cannot be worked on in shards.
    """
    if shard.is_whole:
        return lambda _id: True
    require_shards(connection.engine)
    _, hashed = _hashed(connection.engine, literal(_PROBE, Characters(_ID_CHARACTERS)))
    number = connection.execute(select(hashed)).scalar_one()
    for encoding in _ENCODINGS:
        if _number(_PROBE, encoding) == number:
            return lambda person_id: shard_of(person_id, shard.of, encoding) == shard
    raise SettingsError("`shard`: this database hashes texts in a way that is not known here.",
                        hint="Leave the parameter out.")  # fmt: skip


def require_shards_of(settings: Settings) -> None:
    """See that the profile's database can be worked on in shards, where a shard is asked for.

    Raises:
        SettingsError: it cannot.
    """
    if not settings.part.is_whole:
        _require_shards(dialects.named(make_url(settings.database_url).get_backend_name()))


def require_shards(engine: Engine) -> None:
    """See that a database can be worked on in shards.

    Raises:
        SettingsError: it cannot.
    """
    _require_shards(dialects.of(engine))


def _require_shards(dialect: dialects.Portable) -> None:
    if dialect.shard_hash(literal_column("''")) is None:
        raise SettingsError(
            "`shard`: this database takes one writer at a time, so several processes would only "
            "wait for one another.",
            hint="Leave the parameter out. Shards need PostgreSQL, SQL Server or Oracle.",
        )


def shard_of(person_id: str | None, of: int, encoding: str = "utf-8") -> Shard:
    """The shard of an id, as the database says it of ids without letters beyond ASCII.

    Args:
        of: how many shards there are.
        encoding: in which the database hashes texts; SQL Server's is ``utf-16-le``.
    """
    if person_id is None or not person_id.strip():
        return Shard(1, of)
    return Shard(1 + _number(person_id.strip().lower(), encoding) % of, of)


def _number(text: str, encoding: str) -> int:
    digest = hashlib.sha256(text.encode(encoding)).digest()
    return int.from_bytes(digest[:4], "big")


def _trimmed(text: ColumnElement) -> ColumnElement:
    for blank in _OTHER_BLANKS:
        text = func.replace(text, blank, " ")
    return func.ltrim(func.rtrim(text))
