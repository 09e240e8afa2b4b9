"""What is different on Oracle."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Text, func, literal_column, select, text
from sqlalchemy.sql import Select

from d2i_helpers.database.dialects.portable import Portable
from d2i_helpers.database.dialects.registry import register
from d2i_helpers.settings import Settings

_DAY_AND_TIME = "SYYYY-MM-DD HH24:MI:SS"  # with a minus before Christ
_SESSION = (
    "alter session set nls_sort = binary "
    f"nls_date_format = '{_DAY_AND_TIME}' nls_timestamp_format = '{_DAY_AND_TIME}.FF6' "
    f"nls_timestamp_tz_format = '{_DAY_AND_TIME}.FF6 TZH:TZM'"
)


@register
class Oracle(Portable):
    """Oracle, through oracledb. A schema is a user there, whom only a DBA can make."""

    name = "oracle"
    hides_tables = True
    undoes_ddl = False  # each such statement commits, before it and after it
    # deadlock, conflict of two writers, lock not had in time
    passing_codes = frozenset({"ORA-00060", "ORA-08177", "ORA-00054", "ORA-30006", "ORA-04021"})
    lost_codes = frozenset(
        {"ORA-03113", "ORA-03114", "ORA-03135", "ORA-12537", "ORA-12547", "ORA-01089", "ORA-01033",
         "ORA-01034", "ORA-12541", "ORA-12170", "DPY-4011", "DPY-1001"}
    )  # fmt: skip

    def set_up_connection(self, connection: Any, settings: Settings, info: dict[Any, Any]) -> None:
        """One limit, in milliseconds: a session has none of its own for the wait for a lock.

        Texts are sorted by their codes, as they are compared: pages of ids in the order of a
        language would leave some out. Patterns take ranges of letters in that order as well.

        Days become texts with four figures of the year; the default writes them as 02-JAN-15.
        """
        connection.call_timeout = 1000 * settings.statement_timeout
        with connection.cursor() as cursor:
            cursor.execute(_SESSION)

    def as_raw_text(self, column: ColumnElement) -> ColumnElement:
        """Not by CAST, which makes no CLOB there; days as the session writes them."""
        return func.to_clob(column, type_=Text())

    def is_not_plain(self, text: ColumnElement) -> ColumnElement[bool] | None:
        """By code points, as the session sorts."""
        return text.regexp_match(literal_column("'[^!-~]'"))

    def shard_hash(self, text: ColumnElement) -> ColumnElement[int] | None:
        """By hexadecimal figures, as a RAW cannot become a number."""
        digest = func.rawtohex(func.standard_hash(text, literal_column("'SHA256'")))
        figures = func.substr(digest, literal_column("1"), literal_column("8"))
        return func.to_number(figures, literal_column("'XXXXXXXX'"), type_=BigInteger())

    def utc_now(self) -> ColumnElement:
        """Not `current_timestamp`, which is in the zone of the session."""
        return func.sys_extract_utc(func.systimestamp())

    def login_query(self) -> Select | None:
        """From dual: before 23ai every select needs a table."""
        return select(text("user")).select_from(text("dual"))

    def login_called(self, name: str) -> str:
        """In capitals, unless it stands in quotes; a grant to a quoted name goes by them."""
        return name.strip('"') if name.startswith('"') else name.upper()
