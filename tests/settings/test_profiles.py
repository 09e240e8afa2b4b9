"""Every committed profile is valid, and identifiable data goes to the live endpoint only."""

from __future__ import annotations

import pytest

from d2i_helpers.errors import GateError, SettingsError
from d2i_helpers.settings import load_settings, project_root
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
