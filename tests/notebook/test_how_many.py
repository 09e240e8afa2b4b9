"""What extract's notebook says of how many persons were read."""

from __future__ import annotations

import pytest

from d2i_helpers.notebook import display


@pytest.mark.parametrize(
    ("anew", "said"),
    [
        (1542, "All 1,542 persons were read and judged."),
        (31, "31 of 1,542 persons were read and judged; the rows of the others are as they were."),
        (0, "0 of 1,542 persons were read and judged; the rows of the others are as they were."),
    ],
)
def test_it_says_how_many_were_read(
    capsys: pytest.CaptureFixture[str], anew: int, said: str
) -> None:
    display.how_many_were_read(anew, 1542)
    assert capsys.readouterr().out.strip() == said


def test_it_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    display.how_many_were_read(1542, 1542, "`reassess` is set")
    said = "All 1,542 persons were read and judged: `reassess` is set."
    assert capsys.readouterr().out.strip() == said
