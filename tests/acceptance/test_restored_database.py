"""A backup of the database is restored: the run says so, and what the docs advise ends equal."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.chain import Chain

STAGES = ("run", "--stages", "extract,delta,submit")


ONE = "where pers_person_id = (select min(person_id) from ssd_api_data_staging)"


def sql(chain: Chain, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(chain.folder / "ssd.sqlite")) as connection:
        rows = connection.execute(statement).fetchall()
        connection.commit()
    return rows


def run(chain: Chain, *codes: int, **parameters: object) -> str:
    done = chain.d2i(*STAGES, **parameters)
    assert done.returncode in (codes or (0,)), done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_a_restored_backup_stops_the_day_and_can_be_settled(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    assert chain.d2i("simulate", "init").returncode == 0
    run(chain)
    backup = tmp_path / "backup.sqlite"
    shutil.copy(tmp_path / "ssd.sqlite", backup)

    before = sql(chain, f"select pers_forename from ssd_person {ONE}")  # noqa: S608
    sql(chain, f"update ssd_person set pers_forename = 'Meanwhile' {ONE}")  # noqa: S608
    run(chain)
    chain.assert_converged()

    shutil.copy(backup, tmp_path / "ssd.sqlite")  # the source is as it was, and so is the child
    assert sql(chain, "select count(*) from ssd_person where pers_forename = 'Meanwhile'") == [(0,)]
    said = run(chain, 6)
    assert "1 run that sent 1 message" in said
    assert "allow_older_database" in said
    assert any(d["child_details"]["first_name"] == "Meanwhile" for d in chain.held().values())

    # as docs/convergence.md says: go on, have everybody erased, and send everybody anew
    run(chain, allow_older_database=True)
    sql(chain, "update ssd_api_data_staging set row_state = 'deleted'")
    done = chain.d2i("run", "--stages", "delta,submit", max_deleted_share=1)
    assert done.returncode == 0, done.stdout
    assert chain.held() == {}
    run(chain, max_changed_share=1)
    chain.assert_converged()
    held = {d["child_details"]["first_name"] for d in chain.held().values()}
    assert before[0][0] in held
    assert "Meanwhile" not in held
