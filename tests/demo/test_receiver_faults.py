"""Faults of the simulated receiver: reading the file, and which fault fits which request."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2i_helpers.demo.receiver.faults import make_faults, read_faults
from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import parse_yaml


def names(faults, requests):
    return [faults.choose("children", ids).play.name for ids in requests]


def test_without_a_file_nothing_is_played():
    faults = read_faults(None)
    assert faults.choose("children", ["a"]).play.status is None
    assert faults.too_many() is None


@pytest.mark.parametrize(
    ("when", "played"),
    [
        ({"request": 2}, [2]),
        ({"request": [1, 5]}, [1, 5]),
        ({"every": 2}, [2, 4, 6]),
        ({"every": 2, "times": 2}, [2, 4]),
        ({"child": "c3"}, [3]),
        ({"child": ["c3", "c4"], "every": 2}, [4]),
        ({"share": 0}, []),
        ({"share": 1, "times": 1}, [1]),
        ({"endpoint": "token"}, []),
        ({"records_over": 0, "request": 6}, [6]),
        ({"records_over": 1}, []),
        ({}, [1, 2, 3, 4, 5, 6]),
    ],
)
def test_when_a_fault_is_played(when, played):
    faults = make_faults({"faults": [{**when, "name": "x", "status": 500}]})
    found = names(faults, [[f"c{n}"] for n in range(1, 7)])
    assert [n for n, name in enumerate(found, start=1) if name == "x"] == played


def test_the_first_that_fits_is_played():
    faults = make_faults(
        {"faults": [{"request": 1, "drop": "before"}, {"status": 503}, {"status": 404}]}
    )
    assert names(faults, [[], []]) == ["drop before", "status 503"]


def test_a_bad_record_is_bad_beside_any_other_fault():
    faults = make_faults(
        {"faults": [{"drop": "after"}, {"refuse": "named", "child": "b"}, {"status": 500}]}
    )
    chosen = faults.choose("children", ["a", "b"])
    assert (chosen.play.drop, chosen.play.status, chosen.named) == ("after", None, (1,))


def test_random_faults_follow_the_seed():
    def run(seed):
        faults = make_faults({"seed": seed, "faults": [{"share": 0.3, "status": 500}]})
        return [bool(name) for name in names(faults, [[]] * 200)]

    assert run(1) == run(1) != run(2)
    assert 30 < sum(run(1)) < 90


def test_an_added_fault_does_not_move_a_random_one():
    some = {"share": 0.3, "name": "x", "status": 500}
    alone = make_faults({"faults": [some]})
    both = make_faults({"faults": [{"request": 2, "status": 503}, some]})
    first, second = names(alone, [[]] * 50), names(both, [[]] * 50)
    assert first[2:] == second[2:]


def test_a_share_of_the_children_is_always_the_same_ones():
    faults = make_faults({"seed": 3, "faults": [{"child_share": 0.1, "refuse": "named"}]})
    ids = [f"c{n}" for n in range(1000)]
    positions = faults.choose("children", ids).named
    assert 60 < len(positions) < 140
    backwards = faults.choose("children", ids[::-1]).named
    assert {999 - position for position in backwards} == set(positions)


def test_the_rate_limit():
    faults = make_faults({"rate_limit": {"requests": 2, "seconds": 10}})
    times = iter([0.0, 1.0, 2.0, 9.9, 10.5, 10.6])
    found = [faults.too_many(lambda: next(times)) for _ in range(6)]
    assert found == [None, None, "8", "1", None, "1"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"fault": []}, ["unknown key `fault`", "Did you mean `faults`"]),
        ({"faults": [{"stauts": 500}]}, ["fault 1", "`stauts`", "`status`"]),
        ({"faults": [{"status": 500}, {"request": 1}]}, ["fault 2", "not what happens"]),
        ({"faults": [{"status": 5000}]}, ["`status`", "200 to 599"]),
        ({"faults": [{"status": "5oo"}]}, ["`status`", "whole number"]),
        ({"faults": [{"share": 2, "status": 500}]}, ["`share`", "0 to 1"]),
        ({"faults": [{"drop": "never"}]}, ["`drop`", "before, after"]),
        ({"faults": [{"answer": "late"}]}, ["`answer`", "fewer"]),
        ({"faults": [{"store": "yes", "status": 500}]}, ["`store`", "true or false"]),
        ({"faults": [{"headers": ["a"], "status": 500}]}, ["`headers`", "table"]),
        ({"faults": [{"refuse": "named"}]}, ["`child`"]),
        ({"faults": [{"refuse": "named", "child": "a", "status": 500}]}, ["alone"]),
        ({"faults": {"status": 500}}, ["`faults`", "a list"]),
        ({"faults": ["x"]}, ["fault 1", "table"]),
        ({"rate_limit": {"request": 1}}, ["rate_limit", "`request`"]),
        ({"firewall": 1}, ["`firewall`"]),
        (["x"], ["table"]),
    ],
)
def test_what_is_wrong_in_a_file_is_named(content, words):
    with pytest.raises(SettingsError) as error:
        make_faults(content)
    for word in words:
        assert word in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(SettingsError, match="no fault file"):
        read_faults(tmp_path / "none.yaml")
    file = tmp_path / "broken.yaml"
    file.write_text("faults:\n  - {status: 500\n")
    with pytest.raises(SettingsError, match="line"):
        read_faults(file)
    file.write_text("")
    assert read_faults(file).faults == []
    file.write_text("faults: [{child: [0123, NO], refuse: named, times: 2}]")
    (fault,) = read_faults(file).faults
    assert (fault.children, fault.times) == (frozenset({"0123", "NO"}), 2)


def test_the_example_in_the_documentation_can_be_read():
    page = (Path(__file__).parents[2] / "docs" / "receiver.md").read_text(encoding="utf-8")
    lines = page[page.index("    seed: 7") :].split("\n\n")[0].splitlines()
    faults = make_faults(parse_yaml("\n".join(line[4:] for line in lines)))
    assert len(faults.faults) == 7
    assert faults.rate_limit == (10, 1, "2")
