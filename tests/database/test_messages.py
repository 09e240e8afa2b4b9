"""Errors of drivers, as they write them, told in one sentence with their codes and no value."""

from __future__ import annotations

import pytest
from sqlalchemy import event
from sqlalchemy.engine import create_engine

from d2i_helpers import database
from d2i_helpers.database.messages import SITUATIONS, situation_of
from d2i_helpers.errors import DatabaseError

DRIVER = "[Microsoft][ODBC Driver 18 for SQL Server]"
SERVER = f"{DRIVER}[SQL Server]"


class OdbcError(Exception):
    """As pyodbc raises it: a state and a text, which ends with number and function."""


class PostgresError(Exception):
    """As psycopg raises it: a text, and a state once the server has answered."""

    def __init__(self, text: str, sqlstate: str | None = None) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


class SqliteError(Exception):
    """As sqlite3 raises it."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.sqlite_errorname = name


class OracleError(Exception):
    """As oracledb raises it."""


def odbc(state: str, text: str, number: int, function: str = "SQLDriverConnect") -> OdbcError:
    return OdbcError(state, f"[{state}] {text} ({number}) ({function})")


UNREACHABLE = (
    "A network-related or instance-specific error has occurred while establishing a connection to "
    "CANARY. Server is not found or not accessible."
)
ERRORS = [
    (PostgresError('connection failed: connection to server at "CANARY", port 5432 failed: FATAL:  '
                   "the database system is not yet accepting connections"),
     "The connection to the database was lost", ""),
    (PostgresError('connection failed: connection to server at "CANARY", port 5432 failed: FATAL:  '
                   "the database system is in recovery mode"),
     "The connection to the database was lost", ""),
    (odbc("08001", f"{DRIVER}SSL Provider: The certificate chain was issued by an authority that "
          "is not trusted.\r\n", -2146893019), "The server's certificate is not trusted",
     "-2146893019, 08001"),
    (odbc("08001", f"{DRIVER}SSL Provider: [error:0A000086:SSL routines::certificate verify "
          "failed:self-signed certificate]", -1), "The server's certificate is not trusted",
     "08001"),
    (odbc("08001", f"{DRIVER}SSL Provider: The target principal name is incorrect.\r\n",
          -2146893022), "The server's certificate is of another name", "-2146893022, 08001"),
    (odbc("08001", f"{DRIVER}SSL Provider: [error:0A000086:SSL routines::certificate verify "
          "failed:subject name does not match host name]", -1),
     "The server's certificate is of another name", "08001"),
    (odbc("28000", f"{SERVER}Login failed for user 'LA\\CANARY'.", 18456), "The login failed",
     "18456, 28000"),
    (odbc("28000", f"{SERVER}Login failed. The login is from an untrusted domain.", 18452),
     "The database does not know this Windows login", "18452"),
    (odbc("42000", f"{SERVER}Login failed for user 'CANARY'. Reason: The password of the account "
          "has expired.", 18487), "The password has expired", "18487"),
    (odbc("42000", f'{SERVER}Cannot open database "CANARY" requested by the login.', 4060),
     "There is no such database", "4060, 42000"),
    (odbc("08001", f"{DRIVER}TCP Provider: Error code 0x2AF9", 11001),
     "The server's name cannot be found", "11001"),
    (odbc("08001", f"{DRIVER}TCP Provider: No connection could be made because the target machine "
          "actively refused it.\r\n", 10061), "Nothing listens on that port", "10061"),
    (OdbcError("08001", f"[08001] {DRIVER}SQL Server Network Interfaces: Error Locating Server/"
               f"Instance Specified [xFFFFFFFF].  (-1) (SQLDriverConnect); [HYT00] {DRIVER}Login "
               f"timeout expired (0); [08001] {DRIVER}{UNREACHABLE} (-1)"),
     "The server has no instance of this name", "08001"),
    (odbc("HYT00", f"{DRIVER}Login timeout expired", 0), "The server did not answer in time",
     "HYT00"),
    (odbc("08001", f"{DRIVER}{UNREACHABLE}", 87), "The server cannot be reached", "87, 08001"),
    (odbc("IM002", "[Microsoft][ODBC Driver Manager] Data source name not found and no default "
          "driver specified", 0), "The ODBC driver that", "IM002"),
    (odbc("01000", "[unixODBC][Driver Manager]Can't open lib 'CANARY' : file not found", 0),
     "The ODBC driver that", "01000"),
    (odbc("42000", f"{SERVER}The SELECT permission was denied on the object 'ssd_person', database "
          "'CANARY', schema 'dbo'.", 229, "SQLExecDirectW"),
     "This login lacks a right on a schema, table or column: ssd_person", "229"),
    (odbc("42S02", f"{SERVER}Invalid object name 'CANARY.ssd_person'.", 208, "SQLExecDirectW"),
     "A table, column or schema is not there, or this login may not see it: ssd_person", "208"),
    (odbc("22001", f"{SERVER}String or binary data would be truncated in table 'CANARY', column "
          "'person_id'. Truncated value: '12'.", 2628, "SQLExecDirectW"),
     "A text is longer than its column: person_id (", "2628, 22001"),
    (odbc("40001", f"{SERVER}Transaction (Process ID 61) was deadlocked on lock resources with "
          "another process.", 1205, "SQLExecDirectW"), "The database ended this step",
     "1205, 40001"),
    (OdbcError("40001", f"[40001] {SERVER}Rerun the transaction. (1205)"),
     "The database ended this step", "1205, 40001"),
    (odbc("42000", f"{SERVER}Lock request time out period exceeded.", 1222, "SQLExecDirectW"),
     "Another transaction held", "1222"),
    (odbc("HYT00", f"{DRIVER}Query timeout expired", 0, "SQLExecDirectW"),
     "The statement took longer", "HYT00"),
    (odbc("08S01", f"{DRIVER}TCP Provider: An existing connection was forcibly closed.", 10054),
     "The connection to the database was lost", "10054, 08S01"),
    (odbc("08S01", f"{DRIVER}Communication link failure", 0), "The connection to the database",
     "08S01"),
    (OdbcError("23000", f"[23000] {SERVER}Cannot insert duplicate key row in object 'dbo.CANARY' "
               "with unique index 'CANARY'. The duplicate key value is (1234567). (2601) "
               f"(SQLExecDirectW); [23000] {SERVER}The statement has been terminated. (3621)"),
     "A row of that key is there already", "2601"),
    (odbc("42000", f"{SERVER}Could not allocate space for object 'CANARY' in database 'x' because "
          "the 'PRIMARY' filegroup is full.", 1105, "SQLExecDirectW"), "The database is full",
     "1105"),
    (odbc("25000", f"{SERVER}Failed to update database because the database is read-only.", 3906,
          "SQLExecDirectW"), "The database can only be read", "3906"),
    (PostgresError('connection failed: FATAL:  password authentication failed for user "CANARY"'),
     "The login failed", "OperationalError"),
    (PostgresError("connection failed: fe_sendauth: no password supplied"),
     "No password is set", "OperationalError"),
    (PostgresError('connection failed: FATAL:  no pg_hba.conf entry for host "CANARY"'),
     "The server accepts no connection", "OperationalError"),
    (PostgresError("failed to resolve host 'CANARY': [Errno -2] Name or service not known"),
     "The server's name cannot be found", "OperationalError"),
    (PostgresError('connection to server at "CANARY", port 5432 failed: SSL error: certificate '
                   "verify failed"), "The server's certificate is not trusted", "OperationalError"),
    (PostgresError("connection timeout expired"), "The server did not answer in time",
     "OperationalError"),
    (PostgresError("permission denied for table ssd_person", "42501"),
     "This login lacks a right on a schema, table or column: ssd_person", "42501"),
    (PostgresError("value too long for type character varying(48) of CANARY", "22001"),
     "A text is longer than its column", "22001"),
    (PostgresError("canceling statement due to statement timeout", "57014"),
     "The statement took longer", "57014"),
    (PostgresError("canceling statement due to lock timeout", "55P03"), "Another transaction held",
     "55P03"),
    (PostgresError("deadlock detected\nDETAIL: CANARY", "40P01"), "The database ended this step",
     "40P01"),
    (PostgresError("terminating connection due to administrator command", "57P01"),
     "The connection to the database was lost", "57P01"),
    (PostgresError("could not extend file CANARY: No space left on device", "53100"),
     "The database is full", "53100"),
    (PostgresError("cannot execute INSERT in a read-only transaction", "25006"),
     "The database can only be read", "25006"),
    (SqliteError("database is locked", "SQLITE_BUSY_SNAPSHOT"), "Another transaction held",
     "SQLITE_BUSY_SNAPSHOT"),
    (SqliteError("attempt to write a readonly database", "SQLITE_READONLY_DBMOVED"),
     "The database can only be read", "SQLITE_READONLY_DBMOVED"),
    (SqliteError("database or disk is full", "SQLITE_FULL"), "The database is full", "SQLITE_FULL"),
    (SqliteError("file is not a database", "SQLITE_NOTADB"), "The file cannot be opened",
     "SQLITE_NOTADB"),
    # no room for the index of what is not yet copied back: the disk is full
    (SqliteError("disk I/O error", "SQLITE_IOERR_SHMSIZE"), "The database is full",
     "SQLITE_IOERR_SHMSIZE"),
    (SqliteError("disk I/O error", "SQLITE_IOERR_WRITE"), "The database's file could not be",
     "SQLITE_IOERR_WRITE"),
    (SqliteError("disk I/O error", "SQLITE_IOERR_READ"), "The database's disk or file",
     "SQLITE_IOERR_READ"),
    (OracleError("ORA-01017: invalid credential or not authorized; logon denied"),
     "The login failed", "ORA-01017"),
    (OracleError("ORA-28001: the account's password has expired"), "The password has expired",
     "ORA-28001"),
    (OracleError("DPY-6005: cannot connect to database (CONNECTION_ID=CANARY).\n[Errno 111] "
                 "Connection refused"), "Nothing listens on that port", "DPY-6005"),
    (OracleError("DPY-6005: cannot connect to database (CONNECTION_ID=CANARY).\n[Errno -2] Name or "
                 "service not known"), "The server's name cannot be found", "DPY-6005"),
    (OracleError("DPY-6001: Service \"CANARY\" is not registered with the listener"),
     "There is no such database", "DPY-6001"),
    (OracleError('ORA-00942: table or view "CANARY"."SSD_PERSON" does not exist'),
     "A table, column or schema is not there, or this login may not see it: SSD_PERSON",
     "ORA-00942"),
    (OracleError("ORA-12899: value too large for column \"CANARY\".\"X\" (actual: 60, max: 48)"),
     "A text is longer than its column", "ORA-12899"),
    (OracleError("DPY-4024: call timeout of 600000 ms exceeded"), "The statement took longer",
     "DPY-4024"),
    (OracleError("ORA-00060: deadlock detected while waiting for resource"),
     "The database ended this step", "ORA-00060"),
    (OracleError("ORA-03113: end-of-file on communication channel"),
     "The connection to the database was lost", "ORA-03113"),
]  # fmt: skip


def told(original: Exception) -> DatabaseError:
    """The error as the database module tells it, when connecting raises it."""
    engine = create_engine("sqlite://")

    class Raised(engine.dialect.dbapi.OperationalError):  # type: ignore[misc, name-defined]
        """The driver's error, as SQLAlchemy knows it for one of its driver."""

        def __str__(self) -> str:
            return str(original)

    raised = Raised(*original.args)
    for name, value in vars(original).items():
        setattr(raised, name, value)

    @event.listens_for(engine, "do_connect")
    def _refuse(*_: object) -> None:
        raise raised

    with pytest.raises(DatabaseError) as caught:
        database.ping(engine)
    return caught.value


@pytest.mark.parametrize(("original", "meaning", "codes"), ERRORS)
def test_an_error_that_people_meet_is_told_in_one_sentence(
    original: Exception, meaning: str, codes: str
) -> None:
    error = told(original)
    assert error.message.startswith(meaning)
    assert codes in error.message
    assert error.hint.endswith(".")
    assert "d2i check`" not in str(error)
    assert not any(value in str(error) for value in ("CANARY", "1234567", "'12'"))


def test_what_is_not_in_the_table_shows_its_codes_and_known_words() -> None:
    error = told(
        odbc("42000", f"{SERVER}Cannot find index 'CANARY' of 12 rows.", 7999, "SQLPrepare")
    )
    assert "7999, 42000" in error.message
    assert "index" in error.message
    assert "CANARY" not in str(error) and "12" not in error.message.replace("42000", "")
    assert error.hint and "d2i check`" not in str(error)


@pytest.mark.parametrize(
    "original",
    [SqliteError("SMITH", "SQLITE_CONSTRAINT_TRIGGER"), OdbcError("SMITH (1234567)"),
     PostgresError("child (1234567)", "P0001"), OracleError("value ORA-12345 of SMITH")],
)  # fmt: skip
def test_a_value_is_never_taken_for_a_code(original: Exception) -> None:
    said = str(told(original))
    assert not any(value in said for value in ("SMITH", "1234567", "ORA-12345"))


def test_each_code_stands_for_one_situation() -> None:
    codes = [code for each in SITUATIONS for code in each.codes.split()]
    assert len(codes) == len(set(codes))
    assert situation_of(None) is None
    for each in SITUATIONS:
        assert each.codes or each.words or each.weak_codes
        assert each.advice.endswith(".") and not each.meaning.endswith(".")
