"""What is wrong with whom, as CSV and Excel for case-work teams: by a person, into a marked folder.

The files hold the children's ids and the stored values. They are written only where a person sits
at the notebook, into a folder that its owner alone may read, that says what it holds, and that git
leaves out. A team gets a workbook with its own children only.
"""

from __future__ import annotations

import csv
import datetime as dt
import importlib.util
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from d2i_helpers.errors import GateError
from d2i_helpers.extract.findings import Progress
from d2i_helpers.files import make_private_folder, write_atomic
from d2i_helpers.notebook import display
from d2i_helpers.notebook.quality import NO_TEAM, Quality, children, code_map, offences, rule_of
from d2i_helpers.settings import Settings

FOLDER = "identifiable"  # below the folder of run records, unless told
NOTICE_FILE = "READ_ME_FIRST.txt"
HEADER = ("child", "team", "what is wrong", "field", "meaning", "table", "column", "row", "value")
NOTICE = """\
IDENTIFIABLE: these files name children and what is stored of them.

Made on {day} from {database}, for the case-work teams that mend the records.
Keep them where records of children may be kept. Send a team its own file only, in the way in which
you send other case records. Delete the folder when the work is done: it can be made again.

problems.csv    every problem (UTF-8; for a spreadsheet rather open problems.xlsx)
problems.xlsx   the same, to filter and sort
teams/          one workbook a team, with its own children only
code_map.yaml   values that are no code, to be given one in your overlay

A text that a spreadsheet could take for a formula has a ' in front in the CSV file; in the
workbooks each cell is text as it stands.
"""
# what a spreadsheet takes for the beginning of a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_NOT_IN_A_NAME = re.compile(r"[^\w-]+")


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    children: int
    problems: int
    teams: int
    workbooks: bool  # whether Excel files could be written


def export(
    quality: Quality, folder: str | None = None, *, progress: Progress | None = None
) -> Exported:
    """Write the problems of all children into a new folder.

    Args:
        folder: where the new folder goes; None: `identifiable` below the folder of run records.
        progress: called with the children whose values were looked up.

    Raises:
        GateError: no person sits at this notebook.
        RecordError: the folder cannot be written.
    """
    if not display.may_show_identifiers():
        raise GateError(
            "Files with children's ids are written for a person at a notebook only.",
            hint="Open notebooks/data_quality.ipynb in JupyterLab or VS Code, set `export = True` "
            "and run it there.",
        )
    above = make_private_folder(_above(quality.settings, folder))
    write_atomic(above / ".gitignore", b"*\n")
    made = make_private_folder(above / f"data-quality-{dt.datetime.now():%Y-%m-%d-%H%M%S}")
    notice = NOTICE.format(
        day=quality.settings.today, database=f"profile {quality.settings.profile}"
    )
    write_atomic(made / NOTICE_FILE, notice.encode())
    rows = problem_rows(quality, progress)
    write_atomic(made / "problems.csv", as_csv(rows))
    write_atomic(made / "code_map.yaml", code_map(quality).encode())
    by_team: dict[str, list[Sequence[str]]] = {}
    for row in rows:
        by_team.setdefault(row[1], []).append(row)
    workbooks = importlib.util.find_spec("xlsxwriter") is not None
    if workbooks:
        write_atomic(made / "problems.xlsx", as_workbook(rows))
        teams = make_private_folder(made / "teams")
        for name, part in _file_names(by_team).items():
            write_atomic(teams / f"{name}.xlsx", as_workbook(by_team[part]))
    return Exported(made, len({row[0] for row in rows}), len(rows), len(by_team), workbooks)


def _above(settings: Settings, folder: str | None) -> Path:
    return settings.path(folder) if folder else settings.path(settings.outputs_dir) / FOLDER


def problem_rows(quality: Quality, progress: Progress | None = None) -> list[Sequence[str]]:
    """A row for each thing that is wrong, as `HEADER` names its parts, by team and child."""
    values: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for offence in offences(quality, progress=progress):
        problem = offence.problem
        row = f"{offence.key_column} {offence.key}" if offence.key else ""
        key = (problem.person_id, quality.name(problem.path), problem.rule)
        values.setdefault(key, []).append((row, offence.value))
    meanings = {quality.name(path): known.meaning for path, known in quality.fields.items()}
    rows: list[Sequence[str]] = []
    for found in children(quality).itertuples(index=False):
        child, team, wrong, name, source = map(str, found)
        table, _, column = source.partition(".")
        for row, value in values.get((child, name, rule_of(wrong)), [("", "")]):
            about = (child, team, wrong, name, meanings.get(name, ""))
            rows.append((*about, table, column, row, value))
    return sorted(rows, key=lambda row: (row[1] == NO_TEAM, row[1], row[0], row[3]))


def as_csv(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows as CSV that a spreadsheet reads as text; with the mark by which Excel knows UTF-8."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEADER)
    for row in rows:
        writer.writerow([f"'{cell}" if cell.startswith(_FORMULA) else cell for cell in row])
    return text.getvalue().encode("utf-8-sig")


def as_workbook(rows: Sequence[Sequence[str]]) -> bytes:
    """Rows as a workbook with a heading that stays and a filter; each cell is text as it stands."""
    import xlsxwriter

    content = io.BytesIO()
    options = {"strings_to_formulas": False, "strings_to_urls": False, "in_memory": True}
    with xlsxwriter.Workbook(content, options) as book:
        sheet = book.add_worksheet("problems")
        sheet.write_row(0, 0, HEADER, book.add_format({"bold": True}))
        for number, row in enumerate(rows, start=1):
            for place, cell in enumerate(row):
                sheet.write_string(number, place, cell)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, max(1, len(rows)), len(HEADER) - 1)
        for place, width in enumerate((14, 14, 26, 44, 34, 26, 34, 30, 40)):
            sheet.set_column(place, place, width)
        sheet.set_landscape()
        sheet.set_header("&CIDENTIFIABLE")
        sheet.repeat_rows(0)
    return content.getvalue()


def _file_names(teams: Iterable[str]) -> dict[str, str]:
    """A name for the file of each team: letters, figures and hyphens, each once."""
    names: dict[str, str] = {}
    for team in teams:
        plain = _NOT_IN_A_NAME.sub("-", team).strip("-")[:60] or "team"
        name, number = plain, 1
        while name.lower() in {known.lower() for known in names}:
            number += 1
            name = f"{plain}-{number}"
        names[name] = team
    return names
