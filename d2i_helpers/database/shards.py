"""Which shard a person belongs to: one expression, computed in the database.

It is the same over the source's ids and over those of the staging table, so that every stage gives
a child to the same process. Ids are compared without outer blanks and in small letters, numbers as
text. Where there is no id, or a blank one, it is the first shard, so that such rows are counted
once.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import ColumnElement, Engine, case, cast, func, literal_column, make_url, or_

from d2i_helpers.database import dialects
from d2i_helpers.database.dialects import Characters
from d2i_helpers.errors import SettingsError
from d2i_helpers.settings import Settings, Shard

_ID_CHARACTERS = 200  # no longer id is staged, and the list of who needs attention keeps so many
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
    text = func.lower(_trimmed(cast(person_id, Characters(_ID_CHARACTERS))))
    hashed = dialects.of(engine).shard_hash(text)
    assert hashed is not None
    blank = or_(text.is_(None), text == literal_column("''"))
    number = case((blank, literal_column("0")), else_=hashed % literal_column(f"{shard.of:d}"))
    return (number == literal_column(f"{shard.number - 1:d}"),)


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
    text = person_id.strip().lower().encode(encoding)
    digest = hashlib.sha256(text).digest()
    return Shard(1 + int.from_bytes(digest[:4], "big") % of, of)


def _trimmed(text: ColumnElement) -> ColumnElement:
    for blank in _OTHER_BLANKS:
        text = func.replace(text, blank, " ")
    return func.ltrim(func.rtrim(text))
