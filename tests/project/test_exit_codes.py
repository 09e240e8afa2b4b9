"""The exit codes that docs/running.md lists are those that the program has."""

from __future__ import annotations

import re
from pathlib import Path

from d2i_helpers import errors
from d2i_helpers.errors import STOPPED_EXIT

PAGE = Path(__file__).parents[2] / "docs" / "running.md"


def test_every_kind_of_failure_is_documented_with_its_code() -> None:
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {int(code): kind.strip().strip("`") for code, kind in rows}
    kinds = errors._kinds(errors.D2IError)
    own = {k.exit_code: name for name, k in kinds.items() if k.__module__ == errors.__name__}
    del own[errors.D2IError.exit_code]  # a fault of the program, told in other words
    others = {0, errors.D2IError.exit_code, 2, STOPPED_EXIT}
    assert {code: kind for code, kind in listed.items() if code not in others} == own
    assert others <= listed.keys()


def test_no_two_kinds_share_a_code() -> None:
    codes = [k.exit_code for k in errors._kinds(errors.D2IError).values()]
    assert len(codes) == len(set(codes))
