"""Every failure that a user can meet, as one tree; each kind has its own exit code.

    D2IError                       1  any other error that a user can meet
    ├── SettingsError              3  a parameter, profile or secret is wrong or missing
    ├── DatabaseError              4  the database, a table or a column cannot be used
    ├── SpecificationError         5  the payload specification or an overlay is wrong
    ├── GuardError                 6  the day looks wrong: stopped before anything was written
    ├── GateError                  7  this data may not go to that endpoint
    ├── TokenError                 8  no access token could be had
    ├── ReceiverError              9  the receiver is down or refuses everything
    ├── NotebookError             10  a notebook failed in a way that nobody foresaw
    │   ├── NotebookTimeout       11  a stage took longer than its limit
    │   └── KernelDied            12  a notebook's kernel died
    ├── LeakError                 13  an identity or a secret was found where it must not be
    ├── LockError                 14  another run is working on the same table
    ├── RecordError               15  a run record or the ledger cannot be trusted or found
    ├── PreflightError            16  a preflight check failed
    ├── ClusterError              17  the cluster is not there, or was lost
    ├── StorageError              18  the object storage of the records cannot be used
    ├── SourceMovesError          19  the SSD is being filled while it is read
    └── ChildErrors               20  the run is complete, but some children need attention

0 is success, 1 a fault in the program, 2 a wrong command line. A message says what failed, what is
allowed and what to do next; it never holds a child's data or a secret.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class D2IError(Exception):
    """Base of all errors that are shown to a user as one message, without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        """``message`` says what failed; ``hint`` what to do next."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def _render_traceback_(self) -> list[str]:
        """What Jupyter shows for this error: the message alone (an IPython hook)."""
        return [f"{type(self).__name__}: {self}"]


class SettingsError(D2IError):
    """A parameter, a profile or a secret is wrong or missing."""

    exit_code = 3


class DatabaseError(D2IError):
    """The database cannot be reached, or a table or column is not there.

    Attributes:
        passes: whether the same step may succeed when it is repeated.
        lost: whether the connection is lost.
    """

    exit_code = 4
    passes = False
    lost = False


class SpecificationError(D2IError):
    """The payload specification or an overlay of it is wrong."""

    exit_code = 5


class GuardError(D2IError):
    """The day looks wrong (an empty source, too many changes); nothing was written."""

    exit_code = 6


class GateError(D2IError):
    """Table, endpoint and sign-off do not fit together; nothing was sent."""

    exit_code = 7


class TokenError(D2IError):
    """No access token could be had; nothing was sent."""

    exit_code = 8


class ReceiverError(D2IError):
    """The receiver is down or refuses everything; what was not sent stays pending."""

    exit_code = 9


class NotebookError(D2IError):
    """A notebook failed in a way that nobody foresaw."""

    exit_code = 10


class NotebookTimeout(NotebookError):
    """A stage took longer than its limit."""

    exit_code = 11


class KernelDied(NotebookError):
    """A notebook's kernel died."""

    exit_code = 12


class LeakError(D2IError):
    """An identity or a secret was found where it must not be."""

    exit_code = 13


class LockError(D2IError):
    """Another run is working on the same table."""

    exit_code = 14


class RecordError(D2IError):
    """A run record or the ledger cannot be found or cannot be trusted."""

    exit_code = 15


class PreflightError(D2IError):
    """A preflight check failed."""

    exit_code = 16


class ClusterError(D2IError):
    """The Dask cluster cannot be reached, has no worker, or was lost."""

    exit_code = 17


class StorageError(D2IError):
    """The object storage with the run records cannot be used now."""

    exit_code = 18


class SourceMovesError(D2IError):
    """The SSD is being filled while it is read; nothing was staged."""

    exit_code = 19


class ChildErrors(D2IError):
    """The run is complete, but some children could not be sent and need attention."""

    exit_code = 20


def raise_for_attention(counts: Mapping[str, int], *, tolerated: bool = False) -> None:
    """End a complete stage with an error if some children need attention.

    Args:
        counts: closing counts; `need_attention` is the number of such children.
        tolerated: do not raise; the profile sets `tolerate_child_errors`.

    Raises:
        ChildErrors: there are such children.
    """
    children = counts.get("need_attention", 0)
    if children and not tolerated:
        said = "1 child needs" if children == 1 else f"{children:,} children need"
        raise ChildErrors(
            f"{said} attention; everything else went its way.",
            hint="The notebooks' lists say why, `d2i attention` whom, and staging rows have the "
            "reason in `api_response`.",
        )


class Next(enum.StrEnum):
    """What a scheduler does after a run that ended with an exit code."""

    DONE = "done"
    LOOK = "look"  # all stages that were asked for are complete: go on, and have somebody look
    AGAIN = "again"  # what was in the way may be gone in a while: the same run again
    STOP = "stop"  # the same run would end in the same way: somebody has to act first


STOPPED_EXIT = 130  # as shells say it of a command that was stopped

# Each exit code of ours; a new kind of error is classed here, and a test holds that.
WHAT_NEXT: Mapping[int, Next] = {
    0: Next.DONE,
    1: Next.STOP,
    2: Next.STOP,
    3: Next.STOP,
    4: Next.AGAIN,  # the database may be back
    5: Next.STOP,
    6: Next.STOP,  # a person decides whether the day is right
    7: Next.STOP,
    8: Next.AGAIN,
    9: Next.AGAIN,
    10: Next.STOP,
    11: Next.AGAIN,
    12: Next.AGAIN,
    13: Next.LOOK,  # the identity was taken out, and the sending went on
    14: Next.AGAIN,  # the other run ends, or its lease runs out
    15: Next.STOP,
    16: Next.STOP,
    17: Next.AGAIN,  # the cluster may be back
    18: Next.AGAIN,  # the storage may be back
    19: Next.AGAIN,  # the load of the SSD ends
    20: Next.LOOK,  # to run again would find the same children
    # a machine that shuts down; who means it stops the task in the scheduler
    STOPPED_EXIT: Next.AGAIN,
}
_ENDED_BY_A_SIGNAL = 128  # and its number, as shells say it


def what_next(exit_code: int) -> Next:
    """What is done after a run that ended so.

    Args:
        exit_code: negative or above 128 where a signal ended it, such as for want of memory.
    """
    if exit_code < 0 or (exit_code > _ENDED_BY_A_SIGNAL and exit_code not in WHAT_NEXT):
        return Next.AGAIN
    return WHAT_NEXT.get(exit_code, Next.STOP)


def help_page(exit_code: int) -> str:
    """Where the docs say what an exit code means and what to do."""
    return f"docs/troubleshooting.md#exit-{exit_code}"


def _kinds(base: type[D2IError]) -> dict[str, type[D2IError]]:
    by_name = {base.__name__: base}
    for child in base.__subclasses__():
        by_name.update(_kinds(child))
    return by_name


def error_named(name: str) -> type[D2IError] | None:
    """The error class of that name (as a failed notebook reports it), or None."""
    return _kinds(D2IError).get(name)
