"""Doing a step again that the database ended for a reason that passes.

A deadlock, a lock that another transaction held, a connection that was lost: each ends one step of
a run, and nothing of the step is kept. The step is done again a few times, with growing waits. What
does not pass (a missing right, a value that cannot be stored) ends the run at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import stamina
from sqlalchemy import Engine
from sqlalchemy.engine import Connection

from d2i_helpers.database.transactions import explained, failures, transaction
from d2i_helpers.errors import DatabaseError

Result = TypeVar("Result")
ATTEMPTS = 4
_WAIT_SECONDS = 0.5  # before the second attempt; each further wait is twice as long
_LONGEST_WAIT_SECONDS = 10.0

# stamina reports each retry to the log; without a handler Python would print its bare event name
logging.getLogger("stamina").addHandler(logging.NullHandler())


class Reading(Connection):
    """A connection that only reads: a statement that the database ended is issued again.

    Nothing is lost with its transaction, because each statement sees what is committed when it
    begins. A long-lived one outlives a connection that was lost between two pages.

    What was read in order is ended by a commit: with a rollback psycopg forgets the statements that
    the server has understood, and a page of a first load has dozens of them. So nothing is written
    here: it would be committed in passing, and issued again with what was read.
    """

    _begins = False  # what is executed meanwhile is a part of the beginning, and fails with it

    def execute(self, statement: Any, parameters: Any = None, **options: Any) -> Any:
        """As `Connection.execute`; a statement that writes is a mistake of ours."""
        assert not getattr(statement, "is_dml", False), "a write on a connection that only reads"
        once = super().execute
        if self._begins:
            return once(statement, parameters, **options)

        def attempt() -> Any:
            self._begin()  # else on a connection that is found lost only then
            return once(statement, parameters, **options)

        return read_again(self, attempt)

    def begin_reading(self) -> None:
        """Begin a transaction where none has begun; what listens to that looks at it once."""
        read_again(self, self._begin)

    def _begin(self) -> None:
        if self.in_transaction():
            return
        self._begins = True
        try:
            self.begin()
        finally:
            self._begins = False


@contextmanager
def reading(engine: Engine) -> Iterator[Reading]:
    """A connection that only reads; errors as in `transaction`.

    Raises:
        DatabaseError: the database refused something, or ended each attempt.
    """
    try:
        connection = Reading(engine)
        with connection:
            yield connection
            if not connection.invalidated:
                connection.commit()
    except failures(engine) as error:
        raise explained(error, engine) from None


def in_transaction(engine: Engine, work: Callable[[Connection], Result]) -> Result:
    """Do one chunk of work in a transaction of its own, again where the database ended it.

    Args:
        work: is done from its beginning each time; what it counts has to be in its result alone.

    Raises:
        DatabaseError: the database refused it, or ended each attempt; nothing of it was kept.
    """

    def attempt() -> Result:
        with transaction(engine) as connection:
            return work(connection)

    return again(attempt)


def read_again(connection: Connection, read: Callable[[], Result]) -> Result:
    """Read something, again on the same connection where the database ended that.

    The reading transaction is ended before each further attempt; a lost connection is opened anew.
    Other errors of the driver come through as they are.

    Raises:
        DatabaseError: the database ended each attempt.
    """

    def attempt() -> Result:
        try:
            if connection.invalidated:
                _ = connection.connection  # opened before a transaction begins, and its listeners
            return read()
        except failures(connection.engine) as error:
            said = explained(error, connection.engine)
            if not said.passes:
                raise
            _end(connection, lost=said.lost)
            raise said from None

    return again(attempt)


def _end(connection: Connection, *, lost: bool) -> None:
    """End the transaction of a connection, and give the connection up where it is gone."""
    if lost and not connection.invalidated:
        connection.invalidate()
    connection.rollback()


def again(attempt: Callable[[], Result]) -> Result:
    """Do a step in which nothing is kept when it fails, again where the database ended it.

    Raises:
        DatabaseError: the database refused it, or ended each attempt.
    """
    tries: Any = stamina.retry_context(
        on=_passes,
        attempts=ATTEMPTS,
        timeout=None,
        wait_initial=_WAIT_SECONDS,
        wait_max=_LONGEST_WAIT_SECONDS,
    )
    try:
        for one in tries:
            with one:
                return attempt()
    except DatabaseError as error:
        if not error.passes:
            raise
        raise DatabaseError(
            f"{error.message} It was tried {ATTEMPTS} times.", hint=error.hint
        ) from None
    raise AssertionError("stamina ends with a result or an exception")


def _passes(error: Exception) -> bool:
    return isinstance(error, DatabaseError) and error.passes
