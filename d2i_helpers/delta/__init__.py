"""What to send so that a receiver comes to hold a document; pure functions, no database."""

from d2i_helpers.delta.difference import Mode, delta, delta_text
from d2i_helpers.delta.merge import apply, removed_items, with_removals

__all__ = [
    "Mode",
    "apply",
    "delta",
    "delta_text",
    "removed_items",
    "with_removals",
]
