"""Pictures and tables show wherever a saved notebook is opened, and say their numbers in words."""

from __future__ import annotations

import datetime as dt
import html
import re
import xml.etree.ElementTree as ET
from urllib.parse import unquote

import pytest

from d2i_helpers.notebook import pictures
from d2i_helpers.notebook.pictures import Column, Point
from d2i_helpers.privacy.redaction import Redactor

DAY = dt.datetime(2026, 8, 1, tzinfo=dt.UTC)
SVG = "{http://www.w3.org/2000/svg}"


def drawn(shown: str) -> ET.Element:
    """The picture that is in the HTML, which has to be whole XML."""
    (source,) = re.findall(r'src="data:image/svg\+xml,([^"]+)"', shown)
    return ET.fromstring(unquote(source))


def alt(shown: str) -> str:
    (text,) = re.findall(r'<img alt="([^"]+)"', shown)
    return html.unescape(text)


def test_bars_are_drawn_to_scale_and_give_their_numbers_in_words() -> None:
    shown = pictures.bars("Children", [("new", 1000), ("gone & <left>", 500), ("none", 0)])
    assert alt(shown) == "Children: new 1,000; gone & <left> 500; none 0"
    widths = [
        box.get("width") for box in drawn(shown).iter(f"{SVG}rect") if box.get("class") == "e"
    ]
    assert widths == ["380.0", "190.0"]


def test_nothing_needs_a_script_a_style_sheet_or_inline_svg() -> None:
    """An untrusted notebook loses these; and a page may load nothing."""
    shown = [
        pictures.bars("a", [("b", 1)]),
        pictures.columns("a", [Column("10:00", {"accepted": 1})], "requests"),
        pictures.over_time("a", [Point(DAY, 1, "completed")], "seconds"),
        pictures.table("a", ("b", "c"), [("d", "1")], [False, True]),
    ]
    for one in shown:
        assert not re.search(r"<(?:svg|script|style)|(?:src|href)=\"(?!data:)", one)


def test_what_was_refused_looks_unlike_what_was_acknowledged_without_colours_too() -> None:
    looks = [pictures.look_of(kind) for kind in ("acknowledged", "refused", "failed", "unknown")]
    assert len({look.pattern for look in looks}) == len(looks)
    assert looks[0].colour != looks[1].colour
    shown = pictures.bars("Children", [("acknowledged", 4), ("refused", 1)])
    fills = [box.get("fill") for box in drawn(shown).iter(f"{SVG}rect") if box.get("class") == "e"]
    assert fills == [looks[0].colour, "url(#refused)"]


def test_columns_stand_on_each_other_and_say_their_time() -> None:
    shown = pictures.columns(
        "Requests",
        [Column("10:00", {"accepted": 3, "refused": 1}), Column("10:01", {})],
        "requests",
    )
    assert alt(shown) == (
        "Requests. All requests: 3 accepted, 1 refused. By time: 10:00 3 accepted, 1 refused."
    )
    below, above = [b for b in drawn(shown).iter(f"{SVG}rect") if b.get("class") == "e"][:2]
    tops = [float(box.get("y", 0)) for box in (below, above)]
    assert tops[0] - float(above.get("height", 0)) == pytest.approx(tops[1], abs=0.11)


@pytest.mark.parametrize("number", [0, 0.4, 7, 600, 99999])
def test_points_of_equal_height_are_not_cut(number: float) -> None:
    points = [Point(DAY + dt.timedelta(days=n), number, "completed") for n in range(3)]
    shown = pictures.over_time("Seconds", points, "seconds")
    top, height = re.findall(r"translate\(([\d.]+) ([\d.]+)\)", unquote(shown))[0], 160
    assert 12 < float(top[1]) <= height
    assert "3 from 01 Aug 2026 to 03 Aug 2026" in alt(shown)


def test_a_table_names_its_columns_and_rows_for_readers_aloud() -> None:
    shown = pictures.table(
        "Why", ("", "rule", "children"), [("a", "<b>", "1")], [False, False, True]
    )
    table = ET.fromstring(shown)
    assert table.findtext("caption") == "Why"
    assert [cell.tag for cell in table.findall("thead/tr/*")] == ["td", "th", "th"]
    row = table.findall("tbody/tr/*")
    assert (row[0].tag, row[0].get("scope")) == ("th", "row")
    # as a card on a phone each value says its column
    assert [cell.get("data-name") for cell in row[1:]] == ["rule", "children"]
    assert row[1].text == "<b>"


def test_the_search_for_identities_reads_what_a_picture_shows() -> None:
    """Words of a picture pass `safe_words` before; this is the barrier behind it."""
    redactor = Redactor(["Zelda Ozarin-Brück"], [], today=dt.date(2026, 8, 1))
    shown = pictures.bars("Children", [("of Zelda Ozarin-Brück", 3)])
    source = shown.partition('src="')[2]
    text, found = redactor.redact(source)
    assert found == 1 and "Ozarin" not in text
