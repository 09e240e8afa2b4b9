"""Records broken on purpose, so that it can be seen what becomes of them.

A broken document is staged as other software would stage it: written, hashed, waiting to be sent.
What is wrong with it is found by delta, or by the receiver. The next extract (or anonymise) writes
the document anew.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections import Counter
from collections.abc import Callable, Sequence

from sqlalchemy import Engine, null

from d2i_helpers import database
from d2i_helpers.demo.simulate import ssd_rows
from d2i_helpers.demo.simulate.document_changes import DETAILS, EPISODES, Day
from d2i_helpers.demo.simulate.staging_days import documents, people, refuse_identifiable
from d2i_helpers.demo.simulate.words import Draw, names_of
from d2i_helpers.document.canonical import content_hash, to_text
from d2i_helpers.errors import GateError, SettingsError
from d2i_helpers.payload_spec import PURGE, Document, Spec, load_spec
from d2i_helpers.settings import Settings
from d2i_helpers.staging import Staged
from d2i_helpers.staging.lease import working_on
from d2i_helpers.staging.load import Load, write
from d2i_helpers.staging.states import Event

Break = Callable[[Day, Document], bool]
STATES_RESET = "states reset"


def future_dates(day: Day, document: Document) -> bool:
    """Referrals that begin in a year: valid in form, so only the receiver can object."""
    for case in (cases := document.get(EPISODES) or []):
        case["referral_date"] = str(day.today + dt.timedelta(days=365))
    return bool(cases)


def too_many_factors(day: Day, document: Document) -> bool:
    """42 factors in an assessment, one more than may be sent."""
    known = next(f for _, f in day.spec.fields() if f.name == "factors").codes
    for case in document.get(EPISODES) or ():
        for item in case.get("child_and_family_assessments") or ():
            item["factors"] = sorted(known.codes if known else ())[:42]
            return True
    return False


def bare_word(day: Day, document: Document) -> bool:
    """Disabilities as a bare word in place of a list."""
    details = document.get(DETAILS) or {}
    held = details.get("disabilities")
    if not isinstance(held, list):
        return False
    details["disabilities"] = held[0] if held else "NONE"
    return True


def no_purge_keys(day: Day, document: Document) -> bool:
    """No flag `purge` anywhere."""

    def without(held: object) -> None:
        if isinstance(held, dict):
            held.pop(PURGE, None)
            for inner in held.values():
                without(inner)
        elif isinstance(held, list):
            for inner in held:
                without(inner)

    without(document)
    return True


def renamed_ids(day: Day, document: Document) -> bool:
    """Referrals whose id has another name."""
    key = day.spec.blocks[EPISODES].key or ""
    cases = [case for case in document.get(EPISODES) or () if key in case]
    for case in cases:
        case["episode_id"] = case.pop(key)
    return bool(cases)


KINDS: dict[str, Break | None] = {
    "future dates": future_dates,
    "42 factors": too_many_factors,
    "disabilities as a bare word": bare_word,
    "purge keys removed": no_purge_keys,
    "ids renamed": renamed_ids,
    STATES_RESET: None,  # the rows say that nothing was ever sent; the documents stay
}


def break_records(
    settings: Settings, kinds: Sequence[str] = (), *, children: int = 1
) -> dict[str, int]:
    """Break the staged records of some fictional or anonymised children.

    Args:
        kinds: names in `KINDS`; each breaks other children. Empty: none.
        children: how many of each kind.

    Returns:
        Number of children by kind; fewer where too few fit.

    Raises:
        SettingsError: there is no such kind.
        GateError: the children may be real, or the profile may send live.
        DatabaseError: there is no staging table. LockError: a run works on it.
    """
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise SettingsError(
            f"No record is broken like `{unknown[0]}`.", hint=f"Possible: {', '.join(KINDS)}."
        )
    if not kinds:
        return {}
    engine = database.open_database(settings)
    try:
        _refuse_real(engine, settings)
        spec = load_spec(settings.cms, settings.overlay_path)
        with working_on(engine, [settings.send_table]):
            return _break(engine, settings, spec, kinds, children)
    finally:
        engine.dispose()


def _refuse_real(engine: Engine, settings: Settings) -> None:
    """Make sure that the children are fictional, or the table is an anonymised one."""
    if settings.endpoint == "live":
        raise GateError(
            "Nothing is broken with a profile whose endpoint is live.",
            hint="Use the demo profile, or one with `endpoint: test` or `simulated`.",
        )
    if settings.source == "identifiable":
        facts = ssd_rows.open_simulated(engine)
        with database.reading(engine) as connection:
            if not ssd_rows.is_witnessed(connection, facts.get("witness", "")):
                raise GateError(
                    "The fictional SSD is gone, so nobody can say whose the staged children are.",
                    hint="Make one with `d2i simulate init`.",
                )
    else:
        refuse_identifiable(engine, settings)


def _break(
    engine: Engine, settings: Settings, spec: Spec, kinds: Sequence[str], children: int
) -> dict[str, int]:
    load = Load(engine, settings.send_table, spec, settings, Counter())
    load.rehash_if_needed()
    staging, volatile = load.staging, load.volatile_ids
    draw = Draw(settings.simulate_seed, "broken", *kinds)
    day = Day(spec, draw, names_of(settings.simulate_seed), settings.today, 0)
    counts = dict.fromkeys(kinds, 0)
    with database.transaction(engine) as connection:
        database.require_staging(connection, staging.name)
        live, _ = people(connection, staging)
        staged: list[Staged] = []
        reset: list[str] = []
        found = documents(connection, staging, draw.several(live, len(live)))
        for person_id, legacy_id, document in found:
            open_kinds = [kind for kind in kinds if counts[kind] < children]
            if not open_kinds:
                break
            for kind in open_kinds:
                change, broken = KINDS[kind], copy.deepcopy(document)
                if change is None:
                    reset.append(person_id)
                elif _fits(change, day, broken):
                    digest = content_hash(spec, broken, volatile_ids=volatile)
                    staged.append(Staged(person_id, legacy_id, to_text(broken), digest))
                else:
                    continue
                counts[kind] += 1
                break
        write(connection, staging, staged)
        forgotten = {"previous_json_payload": null(), "previous_hash": null()}
        staging.moves.move(
            connection, Event.CHANGED_NEW, reset, forgotten, key=staging.table.c.person_id
        )
    return counts


def _fits(change: Break, day: Day, document: Document) -> bool:
    """Break a document; one that is broken already stays as it is."""
    try:
        return change(day, document)
    except (ValueError, TypeError, AttributeError, KeyError):
        return False
