"""Who needs attention: what of an id may be shown."""

from __future__ import annotations

import pytest

from d2i_helpers.staging.attention import mask


@pytest.mark.parametrize(
    ("person_id", "shown"), [("12345678", "…78"), ("AB12", "…12"), ("123", "…"), ("", "…")]
)
def test_of_an_id_two_characters_are_shown_at_most_and_of_a_short_one_none(
    person_id: str, shown: str
) -> None:
    assert mask(person_id) == shown
