"""What the errors of databases mean: for each that people meet one sentence and what to do.

The codes and words are those of the drivers (ODBC with SQL Server, psycopg, sqlite3, oracledb); the
sentences are this project's own and hold no value. An error is looked up by its most telling code,
then by words of its text, then by codes that say little on their own, such as 08001.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Situation:
    """An error that people meet.

    Attributes:
        meaning: one sentence without a full stop.
        advice: what to do.
        codes: SQLSTATEs, error numbers of SQL Server, names of SQLite and Oracle that say it all.
        words: a pattern of the drivers' words, without case.
        weak_codes: codes that mean this where neither a code nor a word says more.
        names_help: whether the names of tables and columns in the text help.
        about_a_value: whether a value in a row is to blame.
    """

    meaning: str
    advice: str
    codes: str = ""
    words: str = ""
    weak_codes: str = ""
    names_help: bool = False
    about_a_value: bool = False


# found by `reachability` too, where a driver does not tell them apart
NO_INSTANCE = Situation(
    "The server has no instance of this name, or its SQL Server Browser does not answer",
    "Check `sql_server_instance`, or name the port instead (`sql_server_port`), which needs no "
    "Browser.",
    "",
    r"error locating server/instance|sql server browser",
)
HOST_UNKNOWN = Situation(
    "The server's name cannot be found",
    "Check the host in `sql_server` or `database_url`, and that this machine is in the right "
    "network (VPN, DNS).",
    "11001 DPY-4027 ORA-12154 ORA-12545",
    r"name or service not known|could not translate host name|failed to resolve host"
    r"|no such host is known|nodename nor servname|name resolution|getaddrinfo"
    r"|no address associated|0x2a(?:f9|fa|fb|fc)\b",
)
NOTHING_LISTENS = Situation(
    "Nothing listens on that port of the server",
    "Check host and port (`sql_server`, or in `database_url`), that the server is running and "
    "takes TCP, and the firewall.",
    "10061 53 ORA-12541",
    r"connection refused|actively refused|0x274d\b|error code 0x6f\b|no such file or directory"
    r"|could not open a connection|is the server running|network is unreachable"
    r"|no route to host",
)
# the next two hold of every table, as preflight knows
LOCK_HELD = Situation(
    "Another transaction held what this step needs for longer than `lock_timeout`",
    "Nothing of the step was kept. See who has the tables open (an editor, a backup, another "
    "job), and run again; or raise `lock_timeout`.",
    "1222 55P03 SQLITE_BUSY SQLITE_LOCKED ORA-00054 ORA-30006 ORA-04021",
    r"lock request time.?out|lock timeout|database (?:table )?is locked",
)
READ_ONLY = Situation(
    "The database can only be read",
    "Name a database that can be written: not a read-only copy or replica (without "
    "`ApplicationIntent=ReadOnly`); on SQLite correct the rights of the file and its folder.",
    "3906 3908 976 978 25006 SQLITE_READONLY ORA-16000 ORA-01552",
    r"read.?only (?:database|transaction)|attempt to write a readonly",
)

SITUATIONS = (
    Situation(
        "The server's certificate is of another name than the one that the server is called by",
        "Name the server as its certificate does (`sql_server`, or the host in `database_url`); "
        "for SQL Server `sql_server_certificate_name` can give that name. docs/setup.md, "
        "*Encryption*.",
        "-2146893022 -2146762481",
        r"target principal name|does not match (?:the )?(?:target )?host|hostname mismatch",
    ),
    Situation(
        "The file with the CA's certificate is not there",
        "Put it where `sslrootcert` in `database_url` says, or correct that. docs/setup.md, "
        "*Encryption*.",
        "",
        r"root certificate file",
    ),
    Situation(
        "The server's certificate is not trusted",
        "Have the CA of the certificate installed on this machine; for PostgreSQL name its file as "
        "`sslrootcert` in `database_url`. For SQL Server, on a network that you trust: "
        "`sql_server_trust_certificate`. docs/setup.md, *Encryption*.",
        "-2146893019 -2146762487 ORA-29024 ORA-28860",
        r"certificate chain was issued|certificate verify failed|self.signed certificate"
        r"|certificate .{0,40}(?:expired|not trusted)",
    ),
    Situation(
        "The server offers no encryption, and `sslmode` asks for it",
        "Have a DBA switch TLS on (PostgreSQL: `ssl = on`). Only on one and the same machine take "
        "`sslmode` out of `database_url`. docs/setup.md, *Encryption*.",
        "",
        r"does not support ssl|ssl is not enabled",
    ),
    Situation(
        "The server accepts no unencrypted connection from this machine, user and database",
        "Set `sslmode=verify-full` in `database_url`; else have a DBA allow it (pg_hba.conf). "
        "docs/setup.md, *Encryption*.",
        "",
        r"(?s)\A(?!.*, ssl encryption).*no pg_hba\.conf entry.{0,300}, no encryption",
    ),
    Situation(
        "The server and this driver do not agree on encryption",
        "Update the driver, or have the server take TLS 1.2; for PostgreSQL see `sslmode`. "
        "docs/setup.md, *Encryption*.",
        "",
        r"unsupported protocol|no ssl|ssl provider|ssl security error|encryption not supported",
    ),
    Situation(
        "No password is set, and the database wants one",
        "Set D2I_DATABASE_PASSWORD in the environment or in .env. docs/setup.md, *Secrets*.",
        "ORA-01005 DPY-4001",
        r"no password supplied|fe_sendauth|password is null|no credentials specified",
    ),
    Situation(
        "The password has expired or the account is locked",
        "Have a DBA unlock the login or set a new password, then correct D2I_DATABASE_PASSWORD.",
        "18486 18487 18488 18470 ORA-28000 ORA-28001 DPY-4026",
        r"must change (?:its|the) password|account is (?:locked|disabled)",
    ),
    Situation(
        "The database does not know this Windows login",
        "Run as an account of the server's domain, or use a login of the database: its name in "
        "`sql_server_login` or `database_url`, its password as D2I_DATABASE_PASSWORD.",
        "18452",
        r"untrusted domain|cannot generate sspi|no kerberos|gssapi",
    ),
    Situation(
        "The server accepts no connection from this machine, user and database",
        "Have a DBA allow it (PostgreSQL: pg_hba.conf; Azure: its firewall).",
        "40615 40914",
        r"no pg_hba\.conf entry|is not allowed to access the server",
    ),
    Situation(
        "The login failed: user or password is wrong",
        "Check the login's name (`sql_server_login`, or in `database_url`) and "
        "D2I_DATABASE_PASSWORD; where no login is named it is the Windows account that this runs "
        "as. A DBA sees the reason in the server's log.",
        "18456 28P01 ORA-01017 ORA-01045",
        r"password authentication failed|peer authentication failed|role .{0,80} does not exist"
        r"|login failed",
        "28000",
    ),
    Situation(
        "There is no such database, or this login may not open it",
        "Check the database's name (`sql_server_database`, or in `database_url`; Oracle: "
        "`service_name`), and have a DBA give the login access to it.",
        "4060 911 916 3D000 ORA-12514 ORA-12505 DPY-6001 DPY-6003",
        r"database .{0,130} does not exist|cannot open database",
    ),
    NO_INSTANCE,
    HOST_UNKNOWN,
    NOTHING_LISTENS,
    Situation(
        "The ODBC driver that the profile names is not installed",
        "Leave `sql_server_driver` out (or `driver=` in `database_url`): the newest that is there "
        "is then taken. docs/setup.md, *A profile*.",
        "IM002 IM003 IM004",
        r"can't open lib|no default driver|data source name not found|specified driver could not",
    ),
    Situation(
        "The server did not answer in time when connecting",
        "Try again; else check host, port and firewall, or raise `connect_timeout`.",
        "10060 258 HYT01 ORA-12170 ORA-12535",
        r"login timeout expired|connection timeout expired|connection timed out|0x274c\b|0x102\b"
        r"|timeout expired during connect|connect.{0,40}timed out",
    ),
    LOCK_HELD,
    Situation(
        "The statement took longer than `statement_timeout`, or waited so long for a lock",
        "Nothing of the step was kept. Have a DBA look at locks and at the indexes that "
        "`d2i check --ddl` prints; or raise `statement_timeout`.",
        "57014 SQLITE_INTERRUPT DPY-4024 ORA-01013",
        r"query timeout expired|statement timeout|call timeout",
        "HYT00",
    ),
    Situation(
        "The database ended this step to free another one (deadlock, or a conflict of two writers)",
        "Nothing of the step was kept: run again. Where it recurs, do not run two jobs on these "
        "tables at once.",
        "1205 3960 40001 40P01 ORA-00060 ORA-08177",
        r"deadlock",
    ),
    Situation(
        "The connection to the database was lost",
        "Nothing of the step was kept: run again when the server and the network are up.",
        "10054 10053 64 121 109 233 6005 17142 57P01 57P02 57P03 57P05 08003 08006 08007 08S01 "
        "08S02 "
        "ORA-03113 ORA-03114 ORA-03135 ORA-12537 ORA-12547 ORA-01089 ORA-01033 ORA-01034 "
        "DPY-4011 DPY-1001",
        r"closed the connection unexpectedly"
        r"|connection (?:is |was |has been )?(?:lost|closed|reset)"
        r"|communication link failure|forcibly closed|terminating connection|broken pipe"
        r"|transport-level error|not connected to|system is (?:starting up|shutting down)"
        r"|system is (?:in recovery mode|not (?:yet )?accepting)"
        r"|cursor's connection has been closed|closed connection",
    ),
    Situation(
        "The database has no more room for connections or memory",
        "Run again later; where it recurs, tell a DBA.",
        "10928 10929 40501 40613 49918 701 802 8645 53000 53200 53300 ORA-00018 ORA-00020 "
        "ORA-04031 ORA-12516 ORA-12519 ORA-12520 SQLITE_NOMEM",
        r"too many (?:clients|connections)|connection slots",
    ),
    Situation(
        "The database is full: its disk, file group or log has no room left",
        "Nothing of the step was kept. Have a DBA make room (on SQLite: free the disk), then run "
        "again.",
        "1105 9002 1101 5149 53100 SQLITE_FULL SQLITE_IOERR_SHMSIZE ORA-01653 ORA-01654 ORA-01658 "
        "ORA-01691 ORA-01536 ORA-30036 ORA-00257",
        r"no space left|disk is full|could not extend",
    ),
    READ_ONLY,
    Situation(
        "The file cannot be opened as a database",
        "Check the path in `database_url` and the rights of the file and its folder; an empty or "
        "damaged file has to be put back from a copy.",
        "SQLITE_CANTOPEN SQLITE_NOTADB SQLITE_CORRUPT SQLITE_PERM SQLITE_AUTH",
    ),
    Situation(
        "The database's file could not be written: a limit (quota, size of a file) or a fault of "
        "its disk",
        "Nothing of the step was kept. See whether this account has reached a limit; if not, stop "
        "and tell a DBA before the next run.",
        "SQLITE_IOERR_WRITE SQLITE_IOERR_TRUNCATE",
    ),
    Situation(
        "The database's disk or file is damaged, or cannot be read",
        "Stop, and tell a DBA at once; do not run again before the database was looked at.",
        "823 824 825 SQLITE_IOERR XX001 XX002 58030 ORA-01578 ORA-01110",
    ),
    Situation(
        "This login lacks a right on a schema, table or column",
        "Have a DBA run what `d2i check --ddl` prints: the grants, and what a new release adds. "
        "docs/setup.md, *Rights and tables*, lists what is needed.",
        "229 230 262 297 300 2760 15151 15247 42501 ORA-01031 ORA-01950 ORA-41900",
        r"permission (?:was )?denied|does not have (?:the )?permission|insufficient privilege"
        r"|permission .{0,60} denied|must be owner",
        names_help=True,
    ),
    Situation(
        "A table, column or schema is not there, or this login may not see it",
        "Check `ssd_schema`, `staging_schema` and the names in the profile and overlay, and "
        "have a DBA deploy what is missing. docs/setup.md, *Rights and tables*.",
        "207 208 1088 2812 3701 4902 42P01 42703 42S02 42S22 3F000 ORA-00942 ORA-00904 ORA-01918",
        r"no such (?:table|column)|has no column|invalid (?:object|column) name",
        names_help=True,
    ),
    Situation(
        "A text is longer than its column",
        "Have a DBA widen the column to what docs/setup.md and `d2i check --ddl` name.",
        "2628 8152 22001 ORA-12899 ORA-01401 ORA-01461",
        r"value too long|would be truncated|right truncation",
        names_help=True,
    ),
    Situation(
        "A row of that key is there already",
        "Look for another job that writes to this table, and for a unique index that this project "
        "does not know.",
        "2601 2627 23505 SQLITE_CONSTRAINT_UNIQUE SQLITE_CONSTRAINT_PRIMARYKEY ORA-00001",
        r"duplicate key|unique constraint",
        names_help=True,
    ),
    Situation(
        "A rule of the table (not null, check, foreign key) refuses a row",
        "Have a DBA give columns of your own a default, and take rules off the staging tables that "
        "this project does not know.",
        "515 547 544 23502 23503 23514 SQLITE_CONSTRAINT ORA-01400 ORA-02290 ORA-02291 ORA-02292",
        "",
        "23000",
        names_help=True,
    ),
    Situation(
        "A value is not of the type that its column or the query asks for",
        "Compare the column's type with docs/setup.md; an overlay can read it as text.",
        "241 242 245 248 8114 8115 22P02 22007 22008 22003 22018 42804 SQLITE_MISMATCH ORA-01722 "
        "ORA-01843 ORA-01858 ORA-01861 ORA-00932",
        r"conversion failed|error converting|invalid input syntax",
        names_help=True,
        about_a_value=True,
    ),
    Situation(
        "The server cannot be reached",
        "Check host, instance and port (`sql_server`, or in `database_url`), the firewall and the "
        "network (VPN); and that the server is running.",
        "",
        "server is not found or not accessible|network-related|tcp provider|named pipes provider",
        "08001 08004 DPY-6000 DPY-6005 DPY-4005 ORA-12543",
    ),
)  # fmt: skip


def table_of_situations() -> str:
    """All of them with what to do, as they stand in docs/troubleshooting.md (Markdown)."""
    rows = [f"| {s.meaning} | {s.advice} |".replace("*", "") for s in SITUATIONS]
    return "\n".join(["| shown | do |", "|---|---|", *rows])


_ORACLE = re.compile(r"(?m)^(?:ORA|DPY|DPI|TNS)-\d{4,5}\b")
# the number of the server stands before the name of the function that ODBC called
_NATIVE = re.compile(r"\((-?\d{1,10})\)\s*\(SQL[A-Za-z]{3,30}\)")
_NATIVE_AT_END = re.compile(r"\((-?\d{1,10})\)\W*$")
_STATE = re.compile(r"[0-9A-Z]{5}")


def _by_code(weak: bool) -> dict[str, Situation]:
    return {
        code: situation
        for situation in reversed(SITUATIONS)
        for code in (situation.weak_codes if weak else situation.codes).split()
    }


_CODES, _WEAK_CODES = _by_code(weak=False), _by_code(weak=True)


def error_codes(error: BaseException | None) -> list[str]:
    """SQLSTATE, name and numbers of a driver's error, the most telling first; never a value."""
    text = str(error)
    numbers = [*_NATIVE.findall(text), *_numbers_of_tuple(error)]
    # at the very end it may be a value, unless it is a number that is known
    numbers += [number for number in _NATIVE_AT_END.findall(text) if number in _CODES]
    named = getattr(error, "sqlite_errorname", None)
    arguments = getattr(error, "args", ())
    # ODBC gives state and text; a text alone may be anything
    states = [getattr(error, "sqlstate", None), *(arguments[:1] if len(arguments) > 1 else ())]
    found = [
        *_ORACLE.findall(text),
        *([named] if isinstance(named, str) else []),
        *numbers,
        *(s for s in states if isinstance(s, str) and _STATE.fullmatch(s) and s.upper() == s),
    ]
    return list(dict.fromkeys(found))


def _numbers_of_tuple(error: BaseException | None) -> list[str]:
    """Drivers such as pymssql give number and text."""
    arguments: tuple[Any, ...] = getattr(error, "args", ())
    number = arguments[0] if len(arguments) == 2 else None
    return [str(number)] if isinstance(number, int) and str(number) in _CODES else []


def situation_of(error: BaseException | None) -> Situation | None:
    """The situation that a driver's error stands for, or None where it is not in the table."""
    codes = error_codes(error)
    text = str(error).lower()
    for code in _with_families(codes):
        if code in _CODES:
            return _CODES[code]
    for situation in SITUATIONS:
        if situation.words and re.search(situation.words, text):
            return situation
    return next((_WEAK_CODES[code] for code in codes if code in _WEAK_CODES), None)


def may_be_about_a_value(error: BaseException) -> bool:
    """Whether a value that cannot be read may be to blame: what has another meaning is not."""
    situation = situation_of(getattr(error, "orig", None) or error)
    return situation is None or situation.about_a_value


def _with_families(codes: list[str]) -> Iterator[str]:
    """Each code, and the family that a name of SQLite belongs to (SQLITE_READONLY_DBMOVED)."""
    for code in codes:
        yield code
        if code.startswith("SQLITE_"):
            while code.count("_") > 1:
                code = code.rpartition("_")[0]
                yield code
