"""The demo's data is made where it is first needed, once, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from d2i_helpers import database
from d2i_helpers.demo import simulate
from d2i_helpers.demo.simulate import first_data, ssd_rows
from d2i_helpers.settings import Settings, load_settings


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings of the demo profile, whose own database is in a folder of the test."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "01_extract.ipynb").touch()
    profile = Path(__file__).parents[2] / "params" / "demo.yaml"
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "demo.yaml").write_text(
        profile.read_text(encoding="utf-8"), encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    return lambda **given: load_settings({"simulate_children": 25, **given})


def state(settings: Settings) -> str | None:
    engine = database.open_database(settings)
    with database.reading(engine) as connection:
        found = ssd_rows.read_marker(connection).get("state")
    engine.dispose()
    return found


def test_of_two_that_begin_at_once_one_makes_the_data(demo: Callable[..., Settings]) -> None:
    said: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: simulate.make_first_data(demo(), said.append), range(2)))
    assert sorted(made) == [False, True]
    assert said == ["No fictional data yet: making an SSD of 25 children."]
    assert state(demo()) == ssd_rows.READY
    assert not simulate.make_first_data(demo(), said.append)


def test_data_that_was_not_finished_is_made_again(
    demo: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("d2i_helpers.demo.simulate.stage._somebody_away", stopped)
        simulate.make_first_data(demo())
    assert state(demo()) == ssd_rows.LOADING
    assert simulate.make_first_data(demo())
    assert state(demo()) == ssd_rows.READY


def test_another_profile_or_database_gets_no_data(
    demo: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_data, "init", lambda _: pytest.fail("data was made"))
    assert not simulate.make_first_data(demo(database_url=f"sqlite:///{tmp_path / 'my.sqlite'}"))
    other = demo().model_copy(update={"profile": "phase1_single_fake"})
    assert not simulate.make_first_data(other)
