"""Laws of pupil numbers' pseudonyms: a permutation, of the number's kind, valid."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2i_helpers.anonymise.keyed import Keyed
from d2i_helpers.anonymise.upn import _EXIST, PupilNumbers, upn_check_letter

ONE, OTHER = PupilNumbers(Keyed(b"1" * 32)), PupilNumbers(Keyed(b"2" * 32))
LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"
VALID = re.compile(r"[A-HJ-NP-RT-Z]\d{11}[\dA-HJ-NP-RT-Z]")


def with_letter(rest: str) -> str:
    return upn_check_letter(rest) + rest


def numbers() -> st.SearchStrategy[str]:
    """Valid numbers, of few schools and years so that neighbours are common."""
    return st.builds(
        lambda authority, within, end: with_letter(f"{authority:03}{within:08}{end}"),
        st.sampled_from([*_EXIST[:3], 936, 0, 999]),
        st.one_of(st.integers(0, 99), st.integers(0, 10**8 - 1)),
        st.sampled_from("0123456789" + LETTERS),
    ).filter(lambda number: not number.endswith("0X"))


@pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 1000, 4099])
@pytest.mark.parametrize("salt", [b"a", b"b"])
def test_every_place_has_one_of_its_own(size: int, salt: bytes) -> None:
    assert {ONE._permuted(salt, place, size) for place in range(size)} == set(range(size))


@given(st.sets(numbers(), min_size=1, max_size=30), st.integers(0, 2))
def test_no_two_numbers_share_a_pseudonym_and_each_keeps_its_kind(
    given_numbers: set[str], again: int
) -> None:
    made = {number: ONE.pseudonym(number, again) for number in given_numbers}
    assert len(set(made.values())) == len(made)
    for number, pseudonym in made.items():
        assert VALID.fullmatch(pseudonym)
        assert with_letter(pseudonym[1:]) == pseudonym
        assert not pseudonym.endswith("0X")
        assert pseudonym[-1].isalpha() == number[-1].isalpha()
        assert (int(pseudonym[1:4]) in _EXIST) == (int(number[1:4]) in _EXIST)
        assert ONE.pseudonym(number, again) == pseudonym


@given(st.text(alphabet=LETTERS + "ISO0123456789X", min_size=1, max_size=13))
def test_what_is_no_number_gets_a_valid_one_too(value: str) -> None:
    pseudonym = ONE.pseudonym(value)
    assert VALID.fullmatch(pseudonym) and with_letter(pseudonym[1:]) == pseudonym
    assert not pseudonym.endswith("0X")
    assert pseudonym[-1].isalpha() == value[-1].isalpha()


def test_neighbours_go_far_apart_and_another_key_or_draw_gives_others() -> None:
    serials = [with_letter(f"936200012{n:03}") for n in range(1000)]
    made = [ONE.pseudonym(number) for number in serials]
    assert len({pseudonym[1:4] for pseudonym in made}) > 150  # spread over all authorities
    in_order = sum(a[1:] < b[1:] for a, b in pairwise(made))
    assert 400 < in_order < 600  # of 999: their order says nothing
    assert not set(made) & {OTHER.pseudonym(number) for number in serials}
    assert not set(made) & {ONE.pseudonym(number, 1) for number in serials}
