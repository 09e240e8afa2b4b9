"""The set-up of every notebook in one line, and the story that it tells.

`open_notebook` gives settings, specification and database, and shows a heading: which run this is,
when, with which profile. The heading's outcome, sentence and funnel are filled in when the notebook
closes or when a cell fails, so a saved notebook says at its top how it ended.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import html
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from d2i_helpers import database, stages
from d2i_helpers.errors import ChildErrors, D2IError
from d2i_helpers.notebook import display, pictures, story
from d2i_helpers.notebook.earlier_runs import counts_so_far, kind_of_run, run_before
from d2i_helpers.notebook.first_data import make_first_data
from d2i_helpers.notebook.story import Counts
from d2i_helpers.payload_spec import Spec, load_spec
from d2i_helpers.privacy.safe_words import shown_setting
from d2i_helpers.settings import Settings, load_settings
from d2i_helpers.staging import overview

AT_WORK = "at work; where it still says so, the notebook did not come to its end"
COMPLETED, ATTENTION, FAILED = "completed", "attention", "failed"
_COLOURS = {COMPLETED: "#009e73", ATTENTION: "#e69f00", FAILED: "#d55e00"}  # beside the words


def open_notebook(parameters: Mapping[str, Any], stage: str | None = None) -> Notebook:
    """Set a notebook up, and show which run it is and the settings in force.

    Args:
        parameters: ``globals()`` of the notebook, with what its `parameters` cell declares.
        stage: the stage that the notebook runs; None: a notebook for people.

    Raises:
        SettingsError: a parameter is wrong.
    """
    settings = load_settings(parameters)
    make_first_data(settings)
    notebook = Notebook(settings, stage)
    notebook.show_heading()
    display.settings_table(settings, folded=stage is None)
    return notebook


class Notebook:
    """What a notebook works with, and the story that it tells.

    Args:
        settings: the settings in force.
        stage: the stage of the notebook, if it is one's.
    """

    def __init__(self, settings: Settings, stage: str | None = None) -> None:
        self.settings = settings
        self._stage = stages.stage_named(stage) if stage else None
        self._outcome, self._sentence = AT_WORK, ""
        self._steps: list[tuple[str, story.Number]] = []
        self._heading_id: str | None = None
        self._began = dt.datetime.now(dt.UTC)
        self._before = self._states()
        _on_error(self)

    @functools.cached_property
    def spec(self) -> Spec:
        """The payload specification with the overlays of the profile.

        Raises:
            SpecificationError: it is not sound.
        """
        return load_spec(self.settings.cms, self.settings.overlay_path)

    @functools.cached_property
    def engine(self) -> Engine:
        """The profile's database.

        Raises:
            DatabaseError: it cannot be opened.
        """
        return database.open_database(self.settings)

    @property
    def _table(self) -> str | None:
        """The staging table that the stage works on last."""
        locks = self._stage.locks if self._stage else ()
        return getattr(self.settings, locks[-1]) if locks else None

    def _states(self) -> dict[str, int]:
        """Rows by state; nothing where the database is away, which the stage itself will say."""
        if self._table is None:
            return {}
        with contextlib.suppress(D2IError):
            return overview.by_state(self.engine, self._table)
        return {}

    # ------------------------------------------------------------------------------- closing
    def close(self, counts: Mapping[str, story.Number]) -> None:
        """Show the stage's closing counts beside the run before, and complete the heading.

        Args:
            counts: as the stage gives them; the run's summary repeats them.
        """
        assert self._stage is not None
        name, settings = self._stage.name, self.settings
        outputs = settings.path(settings.outputs_dir)
        before = run_before(outputs, kind_of_run(settings), settings.run_id, name)
        display.closing(name, counts, before.counts[name] if before else None)
        if before is None:
            display.remark("No earlier completed run of this profile to compare with.")
        else:
            display.remark(f"The run before is {before.run_id}.")
        if self._table is not None:
            display.states(self._before, self._states(), beside_others=not settings.part.is_whole)
        ended: dict[str, Counts] = {**counts_so_far(settings), name: counts}
        self._sentence = story.sentence_of_stage(name, counts, is_dry=settings.dry_run)
        self._steps = story.funnel(ended)
        self._outcome = COMPLETED
        self.show_heading()

    def fail(self, error: BaseException) -> None:
        """Let the heading say that a cell failed; the message stands where it failed."""
        self._outcome = ATTENTION if isinstance(error, ChildErrors) else FAILED
        if self._outcome == FAILED:
            said = (
                error.message
                if isinstance(error, D2IError)
                else "the last cell that ran shows where."
            )
            self._sentence = f"Failed with {type(error).__name__}: {said}"
        self.show_heading()

    # ------------------------------------------------------------------------------- heading
    def show_heading(self) -> None:
        """Show the heading, or bring the one that is shown up to date."""
        facts = self._facts()
        plain = "\n".join(f"{name}: {value}" for name, value in facts)
        shown = _framed(self._sentence, facts, self._outcome)
        if self._steps:
            shown += pictures.bars("From persons to acknowledged", self._steps)
            steps = "\n".join(f"{name}  {number:,}" for name, number in self._steps)
            plain += f"\n{steps}"
        is_new, self._heading_id = self._heading_id is None, self._heading_id or uuid.uuid4().hex
        display.publish(
            {"text/plain": "\n".join(filter(None, (self._sentence, plain))), "text/html": shown},
            display_id=f"heading-{self._heading_id[:12]}",
            update=not is_new,
        )

    def _facts(self) -> list[tuple[str, str]]:
        settings = self.settings
        facts = [
            ("run", settings.run_id or "by hand"),
            ("time", f"{self._began:%d %b %Y, %H:%M} UTC"),
            ("profile", shown_setting("profile", settings.profile)),
        ]
        if settings.shard:
            facts.append(("shard", f"{settings.shard}: counts are of its part of the children"))
        if self._stage:
            dry = "yes: nothing is sent" if settings.dry_run else "no"
            facts += [("outcome", self._outcome), ("dry run", dry)]
        return facts


def _framed(sentence: str, facts: list[tuple[str, str]], outcome: str) -> str:
    colour = _COLOURS.get(outcome, "#7d8791")
    said = (
        f'<p style="font-size:1.2em;margin:0 0 0.3em"><strong>{html.escape(sentence)}</strong></p>'
    )
    return (
        f'<div style="border-left:6px solid {colour};padding:0.3em 0 0.3em 0.8em;margin:0.4em 0">'
        f"{said if sentence else ''}{pictures.table('', ('', ''), facts)}</div>"
    )


def _on_error(notebook: Notebook) -> None:
    """Tell the notebook of a cell that fails, where there is a notebook."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        return

    def after_cell(result: Any) -> None:
        error = result.error_in_exec
        if error is not None:
            notebook.fail(error)

    shell.events.register("post_run_cell", after_cell)
