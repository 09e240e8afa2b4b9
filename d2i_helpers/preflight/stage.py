"""Check whether a run can succeed, before anything is read or sent. Nothing is changed for good."""

from __future__ import annotations

from d2i_helpers import database
from d2i_helpers.anonymise.key import require_key
from d2i_helpers.anonymise.rule_checks import require_rules
from d2i_helpers.errors import D2IError, SettingsError, SpecificationError
from d2i_helpers.payload_spec import Spec, load_spec, takes_out_nothing
from d2i_helpers.preflight import machine, profile, receiving, script, source, staged
from d2i_helpers.preflight.checks import (
    COUNTS,
    FAIL,
    PASS,
    SKIPPED,
    WARN,
    Check,
    counts,
    error_of,
    failed,
    guarded,
    require,
)
from d2i_helpers.settings import Secrets, Settings, load_secrets

__all__ = [
    "COUNTS", "FAIL", "PASS", "SKIPPED", "WARN", "Check", "counts", "ddl_script", "error_of",
    "require", "run", "whole_script",
]  # fmt: skip


def run(settings: Settings, secrets: Secrets | None = None) -> list[Check]:
    """Check everything that a run needs, in the order in which it will need it.

    Returns:
        One or more checks of each subject. A failed check is returned, not raised.
    """
    said = f"profile {settings.profile}, endpoint {settings.endpoint}"
    if settings.dry_run:
        said += ", dry run: nothing will be sent"
    checks = [Check("settings", PASS, said)]
    try:
        secrets = secrets or load_secrets()
    except D2IError as error:
        unlooked = "not looked at without the secrets"
        skipped = (Check(name, SKIPPED, unlooked) for name in ("database", "receiver"))
        return [*checks, failed("secrets", error), *skipped]
    checks += profile.checks(settings, secrets)
    spec, check = _spec(settings)
    checks += [check, *_overlay(settings, spec)]
    checks += [*_anonymising(settings, secrets, spec), *_known_gaps(spec)]
    checks += [machine.guards(settings)]
    checks += _database(settings, secrets, spec)
    checks += receiving.checks(settings, secrets, spec)
    checks += [machine.disk(settings), *machine.versions()]
    return checks


def ddl_script(settings: Settings, secrets: Secrets | None = None) -> tuple[str, D2IError | None]:
    """One script, with comments, of the statements that a database administrator has to run.

    Returns:
        The script, and None. Where the database cannot be asked: a script that makes everything,
        and the error that says why.
    """
    spec, spec_check = _spec(settings)
    checks = [spec_check, *_database(settings, secrets or load_secrets(), spec)]
    return script.of(checks, settings), error_of([c for c in checks if c.name == "database"])


def whole_script(settings: Settings, dialect: str) -> str:
    """Every table, index and grant, in the words of a database that is not asked.

    Args:
        dialect: as SQLAlchemy calls the database.

    Raises:
        SettingsError: no such database is known here.
        SpecificationError: the overlay is wrong.
    """
    return script.whole(settings, load_spec(settings.cms, settings.overlay_path), dialect)


def _spec(settings: Settings) -> tuple[Spec | None, Check]:
    try:
        spec = load_spec(settings.cms, settings.overlay_path)
    except D2IError as error:
        return None, failed("specification", error)
    said = f"version {spec.version}, {sum(1 for _ in spec.fields())} fields"
    return spec, Check("specification", PASS, said)


def _overlay(settings: Settings, spec: Spec | None) -> list[Check]:
    """What the authority's overlay takes out though it is not there; a slip is a fault already."""
    if spec is None:
        return []
    in_vain = takes_out_nothing(settings.cms, settings.overlay_path)
    if not in_vain:
        return []
    said = f"it {'; '.join(one.said for one in in_vain)}"
    advice = "Is it called otherwise now? Then it is sent. `d2i spec docs` lists what there is."
    return [Check("overlay", WARN, said, advice)]


def _anonymising(settings: Settings, secrets: Secrets, spec: Spec | None) -> list[Check]:
    """A rule that the stage anonymise would end with; a failure where the twin is needed."""
    if spec is None:
        return []
    try:
        require_rules(spec)
    except SpecificationError as error:
        if settings.source == "anonymised" or _has_key(settings, secrets):
            return [failed("anonymising rules", error)]
        advice = f"{error.hint} Or leave the stage out, with --stages."
        said = f"{error.message} anonymise would fail."
        return [Check("anonymising rules", WARN, said, advice)]
    return []


def _has_key(settings: Settings, secrets: Secrets) -> bool:
    try:
        require_key(settings, secrets)
    except SettingsError:
        return False
    return True


def _known_gaps(spec: Spec | None) -> list[Check]:
    """What this system cannot give. Nobody can mend it, so it is no warning."""
    if spec is None or not spec.known_gaps:
        return []
    said = "; ".join(f"{place} ({why})" for place, why in spec.known_gaps.items())
    return [Check("known gaps", PASS, f"left empty or incomplete by this system: {said}")]


def _database(settings: Settings, secrets: Secrets, spec: Spec | None) -> list[Check]:
    try:
        engine = database.open_database(settings, secrets)
        server = database.ping(engine)
    except D2IError as error:
        said = "the database cannot be reached"
        return [
            failed("database", error),
            Check("tables", SKIPPED, said, ddl=script.for_nothing_there(settings)),
        ]
    try:
        checks = [Check("database", PASS, server)]
        checks += guarded("database clock", lambda: machine.database_clock(engine))
        if spec is not None:
            checks += guarded("source tables", lambda: source.checks(engine, settings, spec))
        checks += guarded("staging tables", lambda: staged.checks(engine, settings))
        return checks
    finally:
        engine.dispose()
