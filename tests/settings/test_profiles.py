"""Every committed profile is valid, and identifiable data goes to the live endpoint only."""

from __future__ import annotations

from pathlib import Path

import pytest

from d2i_helpers.errors import GateError, SettingsError
from d2i_helpers.settings import load_settings, loading, project_root
from d2i_helpers.submit import gates

PROFILES = sorted(path.stem for path in (project_root() / "params").glob("*.yaml"))


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("D2I_DATABASE_URL", raising=False)


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_is_valid(profile: str) -> None:
    settings = load_settings({"profile": profile})
    assert settings.profile == profile
    if settings.endpoint == "test":
        assert settings.source == "anonymised"


def test_the_five_test_phases_and_the_demo_are_there() -> None:
    assert len([p for p in PROFILES if p.startswith("phase")]) == 5
    assert "demo" in PROFILES


def test_the_live_profile_does_not_pass_the_gates_as_committed() -> None:
    with pytest.raises(GateError, match="sign-off"):
        gates.require(gates.decide(load_settings({"profile": "phase5_live"})))


def test_an_unknown_profile_lists_the_known() -> None:
    with pytest.raises(SettingsError, match="demo"):
        load_settings({"profile": "dmeo"})
    with pytest.raises(SettingsError, match="is a folder, and a profile is a file") as caught:
        load_settings({"profile": str(project_root() / "params")})
    assert "demo" in (caught.value.hint or "")


def test_an_overlay_beside_the_profiles_is_not_named_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params").mkdir()
    for name, text in {
        "ours": "la_code: 812\nvolatile_ids: true\n",
        "overlay": "volatile_ids: true\nblocks: {adoption: null}\n",
        "broken": "la_code: [",
        "nothing": "",
    }.items():
        (tmp_path / "params" / f"{name}.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(loading, "project_root", lambda: tmp_path)
    with pytest.raises(SettingsError) as caught:
        load_settings({"profile": "dmeo"})
    assert caught.value.hint == "Known: broken, nothing, ours."


@pytest.mark.parametrize("text", ["", " \r\n", "\ufeff"])
def test_an_empty_profile_does_not_stand_for_the_demo(tmp_path: Path, text: str) -> None:
    path = tmp_path / "phase5_live.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"phase5_live\.yaml is empty"):
        load_settings({"profile": str(path)})


@pytest.mark.parametrize("name", ["", " "])
def test_no_name_of_a_profile_does_not_stand_for_the_demo(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="`profile` is empty"):
        load_settings({"profile": name})
    assert load_settings({"profile": None}).profile == "demo"
    monkeypatch.setenv("D2I_PROFILE", name)
    with pytest.raises(SettingsError, match="`profile` is empty"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("la_code", "12", "not of the form that is needed: DfE code of the authority, 3 digits"),
        ("dry_run", "ja", "true or false is needed"),
        ("batch_size", "1.5", "a whole number is needed"),
        ("pause_seconds", "1,5", "with a point, not with a comma"),
        ("phase", "fulll", "it has to be 'delta' or 'full'"),
        ("batch_size", "101", "it has to be less than or equal to 100"),
    ],
)
def test_what_is_needed_is_said_in_plain_words(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, **{name: value})
    assert said in caught.value.message
