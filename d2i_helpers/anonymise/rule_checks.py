"""Whether every field can be anonymised: asked before a night, and not found out in it."""

from __future__ import annotations

import datetime as dt

from d2i_helpers.anonymise import fake_documents, keyed
from d2i_helpers.anonymise.rules import Rules
from d2i_helpers.document.validation import Validator
from d2i_helpers.errors import SpecificationError
from d2i_helpers.payload_spec import Spec

_ANY_KEY, _ANY_DAY = b"of no twin".ljust(32), dt.date(2024, 4, 1)


def require_rules(spec: Spec) -> None:
    """Make the rule of every field, and a document of what the rules make up.

    Raises:
        SpecificationError: a field has no rule, or its rule cannot respect the field's limits.
    """
    rules = Rules(spec, keyed.Keyed(_ANY_KEY), avoid=())
    for block, field in spec.fields():
        rules.of(block, field)
    (made,) = fake_documents.documents(spec, _ANY_DAY, 1)
    problems = Validator(spec).problems(made)
    if problems:
        shown = "; ".join(dict.fromkeys(map(str, problems)))
        raise SpecificationError(
            f"What is made up for the anonymised copy breaks rules of the specification: {shown}.",
            hint="Give the field another rule under `anonymise:` (`drop` always fits, unless it is "
            "mandatory), or limits that leave room.",
        )
