"""The payload specification: the single place that knows a field, and what is made from it."""

from d2i_helpers.payload_spec.checks import faults
from d2i_helpers.payload_spec.loading import (
    Spec,
    build_spec,
    load_spec,
    merge,
    merged_text,
    takes_out_nothing,
    with_taken_out,
)
from d2i_helpers.payload_spec.model import (
    PURGE,
    Block,
    CodeList,
    Document,
    Field,
    Source,
    Team,
    source_columns,
)

__all__ = [
    "PURGE",
    "Block",
    "CodeList",
    "Document",
    "Field",
    "Source",
    "Spec",
    "Team",
    "build_spec",
    "faults",
    "load_spec",
    "merge",
    "merged_text",
    "source_columns",
    "takes_out_nothing",
    "with_taken_out",
]
