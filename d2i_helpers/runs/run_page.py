"""The page of one run, `run.html` in its folder: who, when, where, how it ended, what it did.

It is made from `run.json` alone and belongs to the record: `run.json` holds its hash, as those of
the notebooks. While the run is at work it is written anew after each stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from d2i_helpers.errors import RecordError
from d2i_helpers.files import write_atomic
from d2i_helpers.kernel_protocol import ATTENTION_TITLE
from d2i_helpers.notebook import pictures, story
from d2i_helpers.notebook.earlier_runs import EarlierRun, Kind, run_before
from d2i_helpers.plain_english import subject
from d2i_helpers.runs import pages, records
from d2i_helpers.runs.records import ATTENTION, RUN_PAGE, RunRecord, StageRecord

_CHECKS = "preflight"  # the stage that does nothing but look


def write_run_page(record: RunRecord) -> Path:
    """Write the page of a run as its record stands now.

    Raises:
        RecordError: it could not be written, or the record was edited; the earlier page is as it
            was.
    """
    path = record.folder / RUN_PAGE
    try:
        page = _page(record)
    except (
        jinja2.UndefinedError,
        ArithmeticError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ):
        raise RecordError(
            f"The record {record.folder.name} holds what no run writes; it has no page."
        ) from None
    write_atomic(path, page, durable=record.status != records.RUNNING)
    return path


def counts_by_stage(record: RunRecord) -> dict[str, Mapping[str, float]]:
    """Closing counts of the stages that have some."""
    return {stage.name: stage.counts for stage in record.stages if stage.counts}


def sentence_of(record: RunRecord) -> str:
    """What the run did, in one sentence; empty where no stage ended.

    Of a run that failed after preflight it is empty too: that all checks passed is not what came
    out of it.
    """
    counts = counts_by_stage(record)
    if record.error and record.error.get("stage") != _CHECKS and counts.keys() == {_CHECKS}:
        return ""
    return story.sentence_of_run(counts, is_dry=record.is_dry)


def kind_of(record: RunRecord) -> Kind:
    """Which runs it can be compared with."""
    return Kind(
        record.profile,
        record.parameters.get("person_ids"),
        record.is_dry,
        record.parameters.get("shard"),
    )


def _page(record: RunRecord) -> bytes:
    before = run_before(record.folder.parent, kind_of(record), record.run_id)
    steps = story.funnel(counts_by_stage(record))
    picture = pictures.bars("From persons to acknowledged", steps) if steps else ""
    return pages.render(
        "run.html.j2",
        record=record,
        sentence=sentence_of(record),
        facts=_facts(record),
        picture=picture,
        stages=[_stage(record, stage) for stage in record.stages],
        comparison=_comparison(record, before),
        before=before.run_id if before else "",
        before_page=_page_of(record.folder.parent, before),
        attention=_attention(record),
        given=record.given,
        given_words=subject(len(record.given), "parameter", "was"),
        versions=record.environment.get("versions") or {},
        at=records.now(),
        is_running=record.status == records.RUNNING,
    )


def _page_of(outputs: Path, run: EarlierRun | None) -> str:
    """Where a run's page is; empty where an earlier version left none."""
    if run is None or not (outputs / run.run_id / RUN_PAGE).is_file():
        return ""
    return f"../{run.run_id}/{RUN_PAGE}"


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    about = record.environment
    git, spec = about.get("git") or {}, about.get("specification") or {}
    commit = str(git.get("commit", ""))[:12]
    code = "" if record.exit_code is None else record.exit_code
    facts = {
        "profile": record.profile,
        "started": pages.when(record.started_at),
        "ended": pages.when(record.finished_at),
        "took": pages.took(record.seconds),
        "exit code": code,
        "dry run": "yes: nothing is sent" if record.is_dry else "no",
        **_where_to(record),
        "who": about.get("user", ""),
        "where": " ".join(filter(None, (about.get("host"), about.get("platform")))),
        "workbook": (about.get("versions") or {}).get("d2i-workbook", ""),
        "Python": about.get("python", ""),
        "commit": commit + ("" if not commit or git.get("clean") else ", with changed files"),
        "specification": _specification(spec),
        "resumed": "; ".join(_resumed(mark) for mark in record.resumed),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in ("", None)]


def _where_to(record: RunRecord) -> dict[str, str]:
    """Which table might go where, who allowed it, or why not: the last decision of a gate."""
    decisions = [gate for stage in record.stages for gate in stage.gates]
    if not decisions:
        return {}
    last = decisions[-1]
    receiver = ", ".join(filter(None, (last["endpoint"], last["address"], last["host"])))
    facts = {"table": last["table"], "receiver": receiver, "sign-off": last["sign_off"]}
    return facts if last["allowed"] else {**facts, "gate": f"closed: {last['reason']}"}


def _specification(spec: Mapping[str, Any]) -> str:
    """Its version and the fingerprint by which `d2i spec check` names it too."""
    version, fingerprint = spec.get("version", ""), spec.get("fingerprint", "")
    return f"{version}, fingerprint {fingerprint[:16]}" if fingerprint else str(version)


def _resumed(mark: Mapping[str, Any]) -> str:
    return f"{pages.when(mark.get('at'))}, with {mark.get('stage')}, by {mark.get('user')}"


def _stage(record: RunRecord, stage: StageRecord) -> dict[str, Any]:
    page = Path(stage.notebook).with_suffix(".html").name
    return {
        "name": stage.name,
        # of a run that goes on the page may be made a moment later
        "page": page if (record.folder / page).is_file() else "",
        "status": stage.status,
        "took": pages.took(stage.seconds),
        "said": story.sentence_of_stage(stage.name, stage.counts, is_dry=record.is_dry)
        if stage.counts
        else "",
        # of a stage that is complete the sentence says it
        "error": stage.error["message"] if stage.error and stage.status != ATTENTION else "",
        "earlier": [
            (n, Path(one["notebook"]).with_suffix(".html").name, one.get("status", ""))
            for n, one in enumerate(stage.earlier, 1)
        ],
    }


def _comparison(record: RunRecord, before: EarlierRun | None) -> str:
    """Every count of the run beside the same count of the run before."""
    cells = []
    for stage, counts in counts_by_stage(record).items():
        old = before.counts.get(stage, {}) if before else {}
        for name, number in counts.items():
            then = old.get(name)
            if not number and not then:
                continue
            change = f"{number - then:+,}" if then is not None and number != then else ""
            was = "" if then is None else pictures.said(then)
            label = f"{stage}: {name.replace('_', ' ')}"
            cells.append((label, pictures.said(number), was, change))
    if not cells:
        return ""
    header = ("", "this run", "run before", "change")
    return pictures.table("", header, cells, [False, True, True, True])


def _attention(record: RunRecord) -> dict[str, float]:
    """Why children need attention; stages of one table say the same."""
    found: dict[str, float] = {}
    for stage in record.stages:
        for reason, children in (stage.details.get(ATTENTION_TITLE) or {}).items():
            found[reason] = max(children, found.get(reason, 0))
    return found
