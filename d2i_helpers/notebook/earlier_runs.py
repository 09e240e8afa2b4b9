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
from d2i_helpers.privacy.safe_words import saved_setting
from d2i_helpers.settings import Settings

_MOST_LOOKED_AT = 60  # records; a profile that ran less often has nothing to compare with
_COMPLETE = ("completed", "attention")  # no set, which a status that is a list could not be in


@dataclass(frozen=True)
class EarlierRun:
    """A completed run that another one is compared with."""

    run_id: str
    counts: Mapping[str, Counts] = field(default_factory=dict)  # by stage


@dataclass(frozen=True)
class Kind:
    """What runs have to have in common to be compared."""

    profile: str
    pilot: str | None  # of how many persons, as a record says it; None: all persons
    is_dry: bool
    shard: str | None = None  # k/n; None: all children

    def fits(self, earlier: Kind) -> bool:
        """Whether a run of this kind can be compared with an earlier one.

        Both are of one profile and for the same persons (all, or as many of a pilot). Only a dry
        run is compared with a dry run too.
        """
        same = (self.profile, self.pilot, self.shard) == (
            earlier.profile,
            earlier.pilot,
            earlier.shard,
        )
        return same and (self.is_dry or not earlier.is_dry)


def kind_of_run(settings: Settings) -> Kind:
    """The kind of the run that has these settings."""
    pilot = saved_setting("person_ids", settings.person_ids)
    return Kind(settings.profile, pilot, settings.dry_run, settings.shard)


def counts_so_far(settings: Settings) -> dict[str, Counts]:
    """Closing counts, by stage, of the stages of this run that have ended."""
    if not settings.run_id or not RUN_ID.fullmatch(settings.run_id):
        return {}
    return _by_stage(_read(settings.path(settings.outputs_dir) / settings.run_id))


def run_before(
    outputs: Path, kind: Kind, run_id: str | None, stage: str | None = None
) -> EarlierRun | None:
    """The last completed run that one can be compared with; None where there is none.

    Args:
        outputs: folder of the run records.
        kind: of the run that is to be compared.
        run_id: its id; None: the newest record may be taken.
        stage: only a run in which this stage came to its end.
    """
    for name, record in _newest_first(outputs, run_id):
        given = record.get("parameters")
        if record.get("status") not in _COMPLETE or not isinstance(given, dict):
            continue
        dry = given.get("dry_run") is True
        earlier = Kind(str(record.get("profile")), given.get("person_ids"), dry, given.get("shard"))
        counts = _by_stage(record)
        if kind.fits(earlier) and (counts if stage is None else stage in counts):
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
        if isinstance(counts, dict) and counts and stage.get("status") in _COMPLETE:
            found[str(stage.get("name"))] = {
                str(name): number for name, number in counts.items() if type(number) in (int, float)
            }
    return found
