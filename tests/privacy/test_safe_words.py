"""What may stand in a notebook: words of ours and numbers, never what could be a child's."""

from __future__ import annotations

import datetime as dt

import pytest

from d2i_helpers.kernel_protocol import RUN_ID_VARIABLE
from d2i_helpers.notebook import display
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.privacy import human_present as attended
from d2i_helpers.privacy.safe_words import (
    HIDDEN,
    OwnTime,
    safe_label,
    safe_sentence,
    safe_title,
    safe_value,
    saved_setting,
)


@pytest.mark.parametrize(
    "text",
    [
        "children sent",
        "in_cohort",
        "Children by reason",
        "social_care_episodes[].referral_date",
        "ssd_cin_episodes.cine_referral_date",
        "reason: care leaver (18-25)",
        "refused by the DfE API",
        "HTTP 400",
        "400",
        "…78, …12, …",
        "s47",
        "overlaps s47e_s47_start_date, s47e_s47_end_date",
        "rule s47_or_its_conference",
        "",
    ],
)
def test_words_of_ours_are_shown(text: str) -> None:
    assert safe_label(text) == text


def test_every_rule_of_a_row_and_every_attempt_is_shown() -> None:
    """What `explore_payloads` lists under rows that do not count."""
    spec = load_spec()
    entries = [
        f"{rule} {', '.join(argument) if rule != 'rule' else argument}"
        for source in spec.sources.values()
        for entry in source.where
        for rule, argument in entry.items()
    ]
    assert len(entries) > 10
    assert {text for text in [*spec.sources, *entries] if safe_label(text) != text} == set()


def test_only_a_time_of_ours_is_shown() -> None:
    moment = dt.datetime(2026, 8, 10, 2, 0, 1)
    assert safe_value(OwnTime(moment)) == "2026-08-10 02:00:01"
    assert safe_value(moment) == safe_value(moment.date()) == HIDDEN


@pytest.mark.parametrize(
    "text",
    [
        "Smith",
        "Anna Smith",
        "O'Brien",
        "Émile",
        "Zoë Lowe",
        "李",
        "HP1 2QT",
        "A123456789012",
        "1234567",
        "2011-02-03",
        "03/02/2011",
        "children\nSmith",
        "anna@example.org",
        "s47 Smith",
        "s471",
        "ab12",
        "care_worker_gate ab12",
        "March",
        "seen by March",
    ],
)
def test_what_could_be_a_value_is_hidden(text: str) -> None:
    assert safe_label(text) == HIDDEN
    assert safe_value(text) == HIDDEN


def test_objects_are_never_shown() -> None:
    assert safe_value({"first_name": "Anna"}) == HIDDEN
    assert safe_value(["Anna"]) == HIDDEN
    assert safe_value(b"Anna") == HIDDEN


def test_numbers_and_flags_are_shown() -> None:
    assert [safe_value(v) for v in (12345, 1.25, True, None)] == ["12,345", "1.2", "yes", ""]


def test_a_title_may_be_one_word_with_a_capital() -> None:
    assert safe_title("Gates") == "Gates"
    assert safe_title("Anna Smith") == HIDDEN


def test_a_sentence_loses_what_looks_like_a_value() -> None:
    said = safe_sentence("Born 2011-02-03 in HP1 2QT, UPN A123456789012, id 1234567: 12 children.")
    assert said == "Born … in …, UPN …, id …: 12 children."


def test_settings_are_saved_without_ids_and_secrets() -> None:
    assert saved_setting("person_ids", ("123", "456")) == "2 ids"
    assert "hunter2" not in saved_setting("database_url", "postgresql://u:hunter2@h/db")
    assert saved_setting("webhook_url", "https://u:p@hooks.example.org/T0/key?x=1") == (
        "https://hooks.example.org/…"
    )


def test_identifiers_are_never_shown_under_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "somebody sits here")
    monkeypatch.setattr(attended, "_started_by", lambda: "python /usr/bin/jupyter-lab")
    assert display.may_show_identifiers()
    monkeypatch.setenv(RUN_ID_VARIABLE, "20260810T020000-abcd")
    assert not display.may_show_identifiers()


@pytest.mark.parametrize(
    ("command", "attended_"),
    [
        ("/usr/bin/python3 /usr/bin/jupyter-lab --no-browser", True),
        ("python -m jupyterhub.singleuser", True),
        ("/opt/.vscode-server/bin/1/node --type=extensionHost", True),
        ("/usr/bin/python3 /usr/bin/papermill a.ipynb b.ipynb", False),
        ("jupyter nbconvert --execute a.ipynb", False),
        ("/usr/bin/jupyter-execute a.ipynb", False),
        ("airflow task runner", False),
        ("python -m d2i_helpers run", False),
        ("python own_script.py", False),
        ("", False),
    ],
)
def test_a_person_is_told_by_what_started_the_kernel(
    monkeypatch: pytest.MonkeyPatch, command: str, attended_: bool
) -> None:
    monkeypatch.setattr(attended, "_started_by", lambda: command)
    for name in attended._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert not attended.is_human_present()  # no variable, nobody
    monkeypatch.setenv("JPY_SESSION_NAME", "inherited or not")
    assert attended.is_human_present() == attended_


def test_pytest_is_no_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "inherited")
    assert not attended.is_human_present()


def test_no_display_shows_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"field": "first_name", "children": 3, "example": "Anna Smith", "Anna Smith": 1}
    display.table([row], "Anna Smith")
    display.counts("Anna Smith", {"Anna Smith": 3, "found": "Anna Smith"})
    display.bars("Anna Smith", {"Anna Smith": 3})
    display.problems({"Anna Smith": 3})
    display.quality([row])
    display.progress("Anna Smith")(1, 2)
    shown = capsys.readouterr().out
    assert "Anna" not in shown
    assert shown.count(HIDDEN) >= 8


def test_every_rule_that_a_problem_can_name_is_shown() -> None:
    """What the extract notebook lists under values that could not be used."""
    from d2i_helpers.document import assembly, codes, transforms, validation
    from d2i_helpers.document import driver_values as raw

    said = [
        text
        for module in (raw, codes, transforms, assembly, validation)
        for name, text in vars(module).items()
        if name.isupper() and isinstance(text, str) and text.strip(raw.EDGES)
    ]
    said += [*validation._RULES.values(), "refused: cannot be assembled (type error)"]
    said += ["refused: a second child has this id", "unreadable, so the age is not known"]
    assert len(said) > 30
    assert {text for text in said if safe_label(text) != text} == set()
