"""Variables named ``D2I_…``: those of the process and those in ``.env``, taken as written.

The project reads ``.env`` itself: the usual readers put other variables in for ``$``, turn a
backslash into a line break, and pass over a line that they cannot read.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import Unreadable, lines_of, read_text
from d2i_helpers.kernel_protocol import WITHOUT_KEYRING_VARIABLE
from d2i_helpers.settings.model import ENV_PREFIX, Secrets, Settings
from d2i_helpers.settings.root import WORKBOOK_VARIABLE, project_root

SECRETS_DIRECTORY = f"{ENV_PREFIX}SECRETS_DIR"
# what the runner tells its kernels, and what the project's own tests are told
_OURS = frozenset({
    SECRETS_DIRECTORY, WORKBOOK_VARIABLE, WITHOUT_KEYRING_VARIABLE, f"{ENV_PREFIX}UNDER_RUNNER",
    f"{ENV_PREFIX}LEASE_HOLDER", f"{ENV_PREFIX}KERNEL_MODULES",
})  # fmt: skip
_OF_TESTS = f"{ENV_PREFIX}TEST_"
_LINE = re.compile(r"(?:export[ \t]+)?(?P<name>[^\s=]+)[ \t]*=[ \t]*(?P<value>.*)", re.DOTALL)
_NAME = re.compile(r"\w+", re.ASCII)
_QUOTED = re.compile(r"(?P<quote>['\"])(?P<inner>.*?)(?P=quote)(?:[ \t]+#.*)?")
_COMMENT = re.compile(r"(?:^|[ \t]+)#.*")


def process_variables() -> dict[str, str]:
    """The ``D2I_…`` variables of this process, by name in capitals."""
    return {n.upper(): v for n, v in os.environ.items() if n.upper().startswith(ENV_PREFIX)}


def variables_in_dotenv() -> dict[str, str]:
    """The ``D2I_…`` variables in the project's ``.env``; empty where there is none.

    Raises:
        SettingsError: see `read_variables`.
    """
    path = project_root() / ".env"
    return read_variables(path) if path.is_file() else {}


@contextlib.contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Turn an error of reading a file of settings into a message that names the file.

    Raises:
        SettingsError: names the file, and never its content.
    """
    try:
        yield
    except Unreadable as error:
        raise SettingsError(f"{path.name}{error.said}.", hint=error.hint) from None
    except OSError as error:
        raise SettingsError(
            f"{path.name} cannot be read ({error.strerror or type(error).__name__}).",
            hint=f"The account that runs this needs the right to read {path}.",
        ) from None


def read_variables(path: Path) -> dict[str, str]:
    """The ``D2I_…`` variables in a file of ``NAME=value`` lines, by name in capitals.

    A value is what stands after the ``=``, without the blanks around it and without one pair of
    quotes around it. ``#`` begins a comment at the start of a line and after a blank, outside
    quotes. Nothing else has a meaning: not ``$``, not a backslash.

    Raises:
        SettingsError: a line that is no such line, a name that stands twice, a quote that does
            not end, or another encoding; names the line and never its content.
    """
    with said_of(path):
        lines = lines_of(read_text(path))
    read: dict[str, str] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        name = match["name"].upper() if match else ""
        # what is no name and has ours in it is a slip, as in `$env:D2I_…=` and `D2I_…:secret==`
        if match is None or ("D2I" in name and not _NAME.fullmatch(name)):
            raise SettingsError(
                f"{path.name}, line {number}, is not NAME=value.",
                hint="A comment begins with #; a value stands on one line, after =.",
            )
        if not name.startswith(ENV_PREFIX):
            continue  # of other software
        if name in read:
            raise SettingsError(
                f"{path.name}, line {number}: {name} is there a second time.",
                hint="Take out the one that is not meant.",
            )
        read[name] = _value(match["value"], f"{path.name}, line {number}")
    return read


def _value(text: str, where: str) -> str:
    """A value without one pair of quotes or, where there are none, without its comment."""
    if text[:1] in ("'", '"'):
        match = _QUOTED.fullmatch(text)
        if match is None:
            raise SettingsError(
                f"{where}: a value begins with a quote and does not end with it.",
                hint="A quote that belongs to the value stands in quotes of the other kind.",
            )
        return match["inner"]
    return _COMMENT.sub("", text).rstrip()


def unknown_names(names: Iterable[str]) -> dict[str, str]:
    """Names that are neither a parameter nor a secret, each with the nearest known or nothing."""
    known = {f"{ENV_PREFIX}{n.upper()}" for n in (*Settings.model_fields, *Secrets.model_fields)}
    known |= _OURS
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.8)), "")
        for name in sorted(names)
        if name not in known and not name.startswith(_OF_TESTS)
    }


def unknown_variables() -> list[str]:
    """Variables of this process that begin with ``D2I_`` and are near to no known name."""
    return [name for name, near in unknown_names(process_variables()).items() if not near]


def refuse_unknown(names: Mapping[str, str], where: str) -> None:
    """Refuse unknown names: with `D2I_DRY_RUN` misspelt, a run would send in earnest.

    Raises:
        SettingsError: names each unknown name, with the nearest known one.
    """
    unknown = unknown_names(names)
    if unknown:
        said = ", ".join(
            f"{n} (did you mean {near}?)" if near else n for n, near in unknown.items()
        )
        raise SettingsError(
            f"{where}: there is no setting of the name {said}.",
            hint="docs/parameters.md lists all; other software's variables need another prefix.",
        )
