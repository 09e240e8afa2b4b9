"""Can this run succeed? Looked at before anything is read or sent; nothing is left changed."""

from __future__ import annotations

from d2i_helpers import database
from d2i_helpers.errors import D2IError
from d2i_helpers.preflight import machine, receiving, source, staged
from d2i_helpers.preflight.checks import (
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
from d2i_helpers.spec import Spec, load_spec

__all__ = [
    "FAIL", "PASS", "SKIPPED", "WARN", "Check", "counts", "error_of", "require", "run",
]  # fmt: skip


def run(settings: Settings, secrets: Secrets | None = None) -> list[Check]:
    """Look at everything that a run needs, in the order in which it will need it.

    Returns:
        One or more checks a subject; nothing is raised for what is found.
    """
    secrets = secrets or load_secrets()
    found = [Check("settings", PASS, f"profile {settings.profile}, endpoint {settings.endpoint}")]
    spec, check = _spec(settings)
    found += [check, *_known_gaps(spec), machine.guards(settings)]
    found += _database(settings, secrets, spec)
    found += receiving.checks(settings, secrets, spec)
    found += [machine.disk(settings), *machine.versions()]
    return found


def _spec(settings: Settings) -> tuple[Spec | None, Check]:
    try:
        spec = load_spec(settings.cms, settings.overlay_path)
    except D2IError as error:
        return None, failed("specification", error)
    said = f"version {spec.version}, {sum(1 for _ in spec.fields())} fields"
    return spec, Check("specification", PASS, said)


def _known_gaps(spec: Spec | None) -> list[Check]:
    """What this system cannot give; to be known, not to be mended, so it is no warning."""
    if spec is None or not spec.known_gaps:
        return []
    said = "; ".join(f"{place} ({why})" for place, why in spec.known_gaps.items())
    return [Check("known gaps", PASS, f"left empty or incomplete by this system: {said}")]


def _database(settings: Settings, secrets: Secrets, spec: Spec | None) -> list[Check]:
    try:
        engine = database.open_database(settings, secrets)
        server = database.ping(engine)
    except D2IError as error:
        return [
            failed("database", error),
            Check("tables", SKIPPED, "the database cannot be reached"),
        ]
    try:
        found = [Check("database", PASS, server)]
        found += guarded("database clock", lambda: machine.database_clock(engine))
        if spec is not None:
            found += guarded("source tables", lambda: source.checks(engine, settings, spec))
        found += guarded("staging tables", lambda: staged.checks(engine, settings))
        return found
    finally:
        engine.dispose()
