"""The tables of `notebooks/data_quality.ipynb`: for a person to search, and masked where kept."""

from __future__ import annotations

import html
from collections.abc import Sequence

from d2i_helpers.notebook import display, on_screen, quality, quality_export, widget_table
from d2i_helpers.notebook.quality import Quality

_MOST_KEPT = 30  # rows of a table in a saved notebook


def show_sentences(looked: Quality) -> None:
    """Show what the tables say in words: how many children, and the three worst fields."""
    kept, whole = quality.sentences(looked), quality.sentences(looked, name_teams=True)
    on_screen.show(_listed(whole), _listed(kept), "\n".join(kept))


def _listed(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(said)}</li>' for said in sentences)}</ul>"


def show_fields(looked: Quality) -> None:
    """Show every field, the worst first, with the team that has most of its bad values."""
    widget_table.show(
        quality.fields(looked),
        "Fields, the worst first",
        identities=["worst team"],
        most_kept=_MOST_KEPT,
    )


def show_teams(looked: Quality, field: str | None = None) -> None:
    """Show whose one field is, and all fields by team.

    Args:
        field: its name; None: the worst.

    Raises:
        SettingsError: there is no such field.
    """
    path = quality.chosen_field(looked, field)
    title = f"By team: {looked.name(path)}"
    one, every = quality.by_team(looked, path), quality.by_team(looked)
    widget_table.show(one, title, identities=["team"], most_kept=10)
    widget_table.show(every, "By team: every field", identities=["team"], most_kept=10)


def show_problems(looked: Quality) -> None:
    """Show what is wrong, by rule, source column and field; the most children first."""
    widget_table.show(
        quality.problems(looked),
        "What is wrong, by rule and source column",
        identities=["worst team"],
        filters=["what is wrong"],
        most_kept=_MOST_KEPT,
    )


def show_children(looked: Quality, field: str | None = None) -> None:
    """Show the children with something wrong; a picked row shows the stored values.

    Args:
        field: only what is wrong with this one; None: everything.

    Raises:
        SettingsError: there is no such field.
    """
    path = quality.chosen_field(looked, field) if field else None
    rows = quality.children(looked, path)
    widget_table.show(
        rows,
        "Children with something missing or wrong",
        identities=["child", "team"],
        filters=["what is wrong"],
        on_pick=lambda label: values_of(looked, str(rows["child"][label])),
        most_kept=10,
    )


def values_of(looked: Quality, person_id: str) -> str:
    """What is stored behind the problems of one child, as HTML. For a person's eyes only."""
    header = ("what is wrong", "field", "table and column", "row", "stored value")
    rows = [
        (
            offence.problem.rule,
            looked.name(offence.problem.path),
            ".".join(filter(None, (offence.table, offence.column))),
            f"{offence.key_column} {offence.key}" if offence.key else "",
            offence.value,
        )
        for offence in quality.offences(looked, person_id)
    ]
    title = f"Child {person_id}: what is stored"
    if not rows:
        return f"<p><strong>{html.escape(title)}</strong>: nothing; what is missing is missing.</p>"
    return _table(title, header, rows)


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cell = "padding:0.2em 0.9em 0.2em 0;text-align:left;vertical-align:top"
    heads = "".join(f'<th scope="col" style="{cell}">{html.escape(name)}</th>' for name in header)
    body = "".join(
        "<tr>" + "".join(f'<td style="{cell}">{html.escape(text)}</td>' for text in row) + "</tr>"
        for row in rows
    )
    caption = f'<caption style="text-align:left"><strong>{html.escape(title)}</strong></caption>'
    return f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def show_codes(looked: Quality) -> None:
    """Show the code columns, the values that are no code, and a `code_map` to be completed."""
    display.table(quality.code_lists(looked).to_dict("records"), "Code columns")
    widget_table.show(
        quality.codes(looked),
        "Values that are no code",
        identities=["value"],
        filters=["what is wrong"],
        most_kept=_MOST_KEPT,
    )
    _show_text("Part of an overlay, to copy", quality.code_map(looked))


def show_export(looked: Quality, *, wanted: bool, folder: str | None = None) -> None:
    """Write the files for case-work teams, if they are wanted, and say where they are.

    Raises:
        GateError: they are wanted where no person sits at the notebook.
    """
    if not wanted:
        display.notices(["Nothing was exported: set `export = True` above, and run this again."])
        return
    progress = display.progress("children looked up")
    made = quality_export.export(looked, folder, progress=progress)
    display.counts(
        "Exported", {"children": made.children, "rows": made.problems, "teams": made.teams}
    )
    said = [] if made.workbooks else ["Excel files need the package xlsxwriter (extra `lab`)."]
    display.notices([*said, f"IDENTIFIABLE: the folder {made.folder.name} names children. {NOTE}"])
    _show_text("The folder", str(made.folder))


def _show_text(title: str, text: str) -> None:
    """Show a text to a person, to be copied; it may hold values, and is not kept."""
    kept = f"{title}: shown where a person sits at the notebook, and not saved."
    whole = f"<p><strong>{html.escape(title)}</strong></p><pre>{html.escape(text)}</pre>"
    on_screen.show(whole, f"<p>{html.escape(kept)}</p>", kept)


NOTE = f"Read {quality_export.NOTICE_FILE} in it, send each team its own file only, and delete it."
