"""Fictional numbers and codes: right in shape, unmistakably nobody's."""

from __future__ import annotations

import re

import pytest

from d2i_helpers.anonymise.upn import upn_check_letter
from d2i_helpers.demo.simulate.words import (
    Codes,
    Draw,
    Weights,
    names_of,
    nhs_like_number,
    postcode,
    postcode_as_stored,
    upn,
)
from d2i_helpers.document.codes import code_matcher
from d2i_helpers.payload_spec import load_spec


# Worked by hand: the sum of digit times 2, 3, ... 13, modulo 23, counted in A B C D E F G H J K ...
@pytest.mark.parametrize(
    ("body", "letter"),
    [
        ("000000000000", "A"),  # 0
        ("100000000000", "C"),  # 1 x 2
        ("000000000001", "P"),  # 1 x 13: A0 B1 C2 D3 E4 F5 G6 H7 J8 K9 L10 M11 N12 P13
        ("990000000000", "Z"),  # 18 + 27 = 45 = 22
        ("00000000000B", "P"),  # B counts as 1, times 13
    ],
)
def test_the_check_letter_of_a_pupil_number(body: str, letter: str) -> None:
    assert upn_check_letter(body) == letter


def test_pupil_numbers_name_no_real_authority() -> None:
    draw = Draw("upn")
    for temporary in (False, True):
        for _ in range(300):
            number = upn(draw, temporary=temporary)
            assert re.fullmatch(r"[A-HJ-NP-RT-Z]99[0-9]{9}[0-9A-Z]", number)
            assert number[0] == upn_check_letter(number[1:])
            assert number[-1].isalpha() is temporary
            assert "0X" not in number  # a firewall takes it for code


def test_nhs_like_numbers_are_of_the_range_kept_for_tests() -> None:
    draw = Draw("nhs")
    for _ in range(300):
        number = nhs_like_number(draw)
        assert re.fullmatch(r"999[0-9]{7}", number)
        digits = [int(digit) for digit in number]
        # modulo 11: the weighted sum with the check digit counted once is divisible
        assert sum(d * w for d, w in zip(digits, range(10, 0, -1), strict=True)) % 11 == 0


def test_postcodes_are_shaped_as_real_ones_in_areas_that_do_not_exist() -> None:
    draw = Draw("postcode")
    for _ in range(500):
        code = postcode(draw)
        assert re.fullmatch(r"[A-Z]{1,2}[0-9][0-9]? [0-9][A-Z]{2}", code)
        assert code[0] in "QVX"  # letters that begin no postcode of the Royal Mail
        assert "0X" not in code.replace(" ", "")
        stored = postcode_as_stored(draw, code, 8)
        assert len(stored) <= 8
        assert stored.replace(" ", "").upper() == code.replace(" ", "")


def test_stored_codes_can_be_read_and_come_in_many_shapes() -> None:
    codes, draw, spec = Codes(), Draw("codes"), load_spec()
    shapes = set()
    for name in ("referral_source", "placement_type", "closure_reason", "care_leaver_activity"):
        match = code_matcher(spec.code_lists[name], None, spec.placeholders)
        for code in codes.of(name):
            for _ in range(40):
                stored = codes.stored(draw, name, code, 48)
                assert match(stored) == (code, None)
                assert len(stored) <= 48
                shapes.add((stored == code, " - " in stored, stored[0] == " ", stored[-1] == "\t"))
    assert len(shapes) >= 5


def test_names_of_a_seed_are_the_same_again_and_hold_unusual_ones() -> None:
    names, draw = names_of(1), Draw("names")
    drawn = {names.last(draw) for _ in range(2000)} | {names.first(draw, "F") for _ in range(2000)}
    assert {"O'Brien", "Nguyễn", "李", "Zoë"} <= drawn
    names_of.cache_clear()
    again, draw = names_of(1), Draw("names")
    assert {again.last(draw) for _ in range(2000)} <= drawn


def test_draws_keep_to_their_bounds() -> None:
    draw = Draw("bounds")
    assert {draw.between(1, 3) for _ in range(200)} == {1, 2, 3}
    assert draw.between(5, 2) == 5
    assert {draw.weighted(Weights({"a": 1, "b": 0})) for _ in range(200)} == {"a"}
    assert sorted(draw.several([1, 2, 3], 9)) == [1, 2, 3]
    assert Draw(1, "a").between(0, 10**6) == Draw(1, "a").between(0, 10**6)
    assert Draw(1, "a").between(0, 10**6) != Draw(1, "b").between(0, 10**6)
