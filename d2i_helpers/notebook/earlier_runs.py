"""Counts of other stages and other runs, for the notebook of a stage: read from run records.

A record is plain JSON (`run_record.schema.json`). Of it only numbers are taken. What cannot be read
is passed over: a notebook never fails because of an old record.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2i_helpers.kernel_protocol import RECORD_FILE, RUN_ID
from d2i_helpers.notebook.story import Counts
from d2i_helpers.settings import Settings

_MOST_LOOKED_AT = 60  # records; a profile that ran less often has nothing to compare with
_COMPLETE = frozenset({"completed", "attention"})


@dataclass(frozen=True)
class EarlierRun:
    """The last completed run of the same profile in which a stage ran."""

    run_id: str
    counts: Counts = field(default_factory=dict)


def counts_so_far(settings: Settings) -> dict[str, Counts]:
    """Closing counts, by stage, of the stages of this run that have ended."""
    if not settings.run_id or not RUN_ID.fullmatch(settings.run_id):
        return {}
    return _by_stage(_read(settings.path(settings.outputs_dir) / settings.run_id))


def run_before(settings: Settings, stage: str) -> EarlierRun | None:
    """The last completed run to compare a stage with; None where there is none.

    It is of the same profile and for the same persons (all, or as many of a pilot). Only a dry run
    is compared with a dry run too.
    """
    pilot = f"{len(settings.person_ids)} ids" if settings.person_ids else None
    for name, record in _newest_first(settings.path(settings.outputs_dir), settings.run_id):
        given = record.get("parameters")
        if record.get("profile") != settings.profile or not isinstance(given, dict):
            continue
        if given.get("person_ids") != pilot or (given.get("dry_run") and not settings.dry_run):
            continue
        if record.get("status") in _COMPLETE and (counts := _by_stage(record).get(stage)):
            return EarlierRun(name, counts)
    return None


def _newest_first(outputs: Path, before: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    if not outputs.is_dir():
        return
    names = sorted((p.name for p in outputs.iterdir() if RUN_ID.fullmatch(p.name)), reverse=True)
    earlier = [name for name in names if before is None or name < before]
    for name in earlier[:_MOST_LOOKED_AT]:
        yield name, _read(outputs / name)


def _read(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _by_stage(record: Mapping[str, Any]) -> dict[str, Counts]:
    stages = record.get("stages")
    found: dict[str, Counts] = {}
    for stage in stages if isinstance(stages, list) else ():
        counts = stage.get("counts") if isinstance(stage, dict) else None
        if isinstance(counts, dict) and stage.get("status") in _COMPLETE:
            found[str(stage.get("name"))] = {
                str(name): number for name, number in counts.items() if type(number) in (int, float)
            }
    return found
