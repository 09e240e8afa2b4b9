"""Why a child is in or out, and why an item or field is missing; for an analyst's screen.

The result is about one child and holds identifiers, so it is refused in a recorded run.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from d2i_helpers import database
from d2i_helpers.document.source_rows import Doubt, Page, Verdict, key_text
from d2i_helpers.errors import GateError
from d2i_helpers.extract.documents import Documents
from d2i_helpers.extract.sources import ReadPage
from d2i_helpers.kernel_protocol import RUN_ID_VARIABLE
from d2i_helpers.payload_spec import Document, Field, Spec
from d2i_helpers.payload_spec.registry import INCLUSION_SETS
from d2i_helpers.settings import Settings

UNSAID = "cannot be said"


@dataclass
class Why:
    """Every rule's verdict for one child."""

    person_id: str
    is_in: bool = False
    rules: list[dict[str, Any]] = field(default_factory=list)  # rule, holds, detail
    rows: list[dict[str, Any]] = field(default_factory=list)  # source, key, counts, broken rules
    fields: list[dict[str, Any]] = field(default_factory=list)  # field, why it is missing
    document: Document | None = None

    def rows_left_out(self) -> list[dict[str, Any]]:
        """How many rows each rule of each source left out, without any id."""
        counted = Counter((row["source"], rule) for row in self.rows for rule in row["broken"])
        return [{"source": s, "rule": r, "rows": n} for (s, r), n in sorted(counted.items())]

    def add(self, rule: str, verdict: Verdict, detail: str = "") -> bool:
        """Note a verdict and return whether it is a yes; a doubt is noted with its reason."""
        if isinstance(verdict, Doubt):
            self.rules.append({"rule": rule, "holds": UNSAID, "detail": str(verdict)})
            return False
        self.rules.append({"rule": rule, "holds": verdict, "detail": detail})
        return verdict


def why(engine: Engine, settings: Settings, spec: Spec, person_id: str) -> Why:
    """Judge one child by every rule, with the settings of the profile.

    Args:
        person_id: as in ``ssd_person``.

    Raises:
        GateError: this is a recorded run; its output is kept and shown to others.
        DatabaseError: required tables or columns are missing.
    """
    if os.environ.get(RUN_ID_VARIABLE):
        raise GateError(
            "What is said of one child may not stand in a run record.",
            hint="Ask in a notebook opened by hand.",
        )
    answer = Why(person_id.strip())
    alone = settings.model_copy(update={"person_ids": (person_id,)})
    documents = Documents(engine, alone, spec)
    documents.reader.check()
    with database.reading(engine) as connection:
        batch = next(documents.reader.batches(connection))
    page = documents.filters.page(batch.persons, batch.found)
    if answer.add("is in ssd_person", bool(batch.persons)):
        _judge(answer, documents, batch, page)
    return answer


def _judge(answer: Why, documents: Documents, batch: ReadPage, page: Page) -> None:
    row = batch.persons[0]
    verdict = documents.judge(row)
    answer.add("of age in the window", verdict.eligible, verdict.reason)
    membership = documents.inclusion.judge(answer.person_id, verdict.born, page)
    reasons = membership.reasons
    for inclusion_set in INCLUSION_SETS.rules():
        is_on = inclusion_set.is_on(documents.settings)
        detail = inclusion_set.words if is_on else f"switched off: `{inclusion_set.setting}`"
        answer.add(f"inclusion set {inclusion_set.name}", inclusion_set.name in reasons, detail)
    for doubt in membership.doubts:
        answer.add("in another inclusion set", doubt)
    allowed = True
    if batch.statutory is not None:
        known = {key_text(value) for value in batch.statutory}
        allowed = answer.add("in the statutory cohort", answer.person_id in known)
    _rows(answer, documents, batch, page)
    document, problems = documents.assembler.assemble(row, answer.person_id, page)
    answer.add("has an id that can be sent", document is not None)
    clear = answer.add("every item can be judged", next(iter(page.met), True))
    answer.is_in = bool(verdict.eligible and reasons and allowed and document is not None and clear)
    answer.document = document
    fields = {field.path: field for _, field in documents.spec.fields()}
    broken: dict[str, list[str]] = {}
    for path, rule in problems:
        broken.setdefault(path, []).append(rule)
    for path, tally in documents.assembler.tallies().items():
        if tally.rows > tally.filled:
            said = _why_missing(fields[path], broken.pop(path, []))
            answer.fields.append({"field": path, "why": said})
    answer.fields += [{"field": p, "why": "; ".join(sorted(set(r)))} for p, r in broken.items()]


def _why_missing(field: Field, rules: list[str]) -> str:
    """Why a field has no value of its own, and what is sent in its place."""
    said = "; ".join(sorted(set(rules)))
    if field.default is None or (rules and not field.default_if_unusable):
        return said or "empty in the source"
    return f"{said or 'nothing in the source'}; its default is sent"


def _rows(answer: Why, documents: Documents, batch: ReadPage, page: Page) -> None:
    """Note each row that was read for the child, and the entries of `where` that leave it out."""
    plan = documents.plan
    for name in documents.spec.sources:
        if name not in plan.sources or not plan.sources[name].where:
            continue
        key = plan.text(name, plan.sources[name].key)
        for row in batch.found[plan.read_of(name)]:
            broken = documents.filters.broken(name, row, page)
            answer.rows.append(
                {"source": name, "key": key(row), "counts": not broken, "broken": broken}
            )
