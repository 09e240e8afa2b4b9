"""The check of every executed notebook against the identities of the cohort and the secrets."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import Engine, Table

from d2i_helpers import database
from d2i_helpers.database.tables import identifier_hashes, identifiers_taken, staging_table
from d2i_helpers.errors import D2IError, DatabaseError
from d2i_helpers.payload_spec import load_spec
from d2i_helpers.privacy.identities import cohort_identifiers
from d2i_helpers.privacy.identity_hashes import DigestsInMemory, KeptDigests
from d2i_helpers.privacy.redaction import Known, Redactor
from d2i_helpers.privacy.safe_logging import guard_process
from d2i_helpers.privacy.safe_words import saved_setting
from d2i_helpers.privacy.secrets_in_force import secrets_in_force, secrets_not_sought
from d2i_helpers.settings import Settings, ledger_key, load_secrets


class LeakCheck:
    """Redacts the identities in the staging table and the secrets in force.

    Args:
        settings: of the run.

    Raises:
        SettingsError: the ledger key is too short to be a secret.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secrets = load_secrets()
        self.ledger_key = ledger_key(self._secrets)
        known = secrets_in_force(self._secrets, settings)
        self.not_sought = secrets_not_sought(self._secrets, settings)
        self._cohort = _Cohort()
        self._redactor = Redactor(
            (),
            known,
            known=self._cohort.known,
            allowed=self._allowed(),
            today=dt.date.today(),
        )
        self.engine: Engine | None = None
        self.compared = False  # whether the cohort's identities could be read
        guard_process(lambda text: self._redactor.redact(text)[0], level=settings.log_level)

    def open(self) -> Engine:
        """The run's database.

        Raises:
            DatabaseError: it cannot be opened.
        """
        if self.engine is None:
            self.engine = database.open_database(self._settings, self._secrets)
        return self.engine

    def close(self) -> None:
        """Close the database's connections."""
        self._cohort.stop()
        if self.engine is not None:
            self.engine.dispose()

    def renew(self) -> None:
        """Look at the cohort again: a stage may have changed it.

        Where the database cannot be read, as perhaps in the stage, what is known so far stays.
        """
        if self._cohort.renew(self._knowing):
            self.compared = True

    @property
    def missed(self) -> bool:
        """Whether a text could not be compared with the cohort since it was last looked at."""
        return self._cohort.missed

    def redact(self, text: str) -> tuple[str, int]:
        """The text without identities and secrets, and how many were found."""
        if not self._cohort.looked_at:
            self.renew()
        return self._redactor.redact(text)

    def redact_json(self, value: Any) -> tuple[Any, int]:
        """The same for every text in a JSON structure."""
        if not self._cohort.looked_at:
            self.renew()
        return self._redactor.redact_json(value)

    def clean(self, error: D2IError) -> D2IError:
        """The error with a message that may be kept and shown."""
        error.message, error.hint = self.redact(error.message)[0], self.redact(error.hint)[0]
        return error

    def _knowing(self) -> Known:
        """A function that knows the cohort as it is now.

        Raises:
            DatabaseError: the database cannot be read.
        """
        engine, settings = self.open(), self._settings
        if not self._are_there(engine, staging_table(settings.staging_table)):
            return lambda forms: ()
        if self._are_there(engine, identifier_hashes, identifiers_taken):
            spec = load_spec(settings.cms, settings.overlay_path)
            kept = KeptDigests(engine, settings.staging_table, spec, settings.part)
            try:
                kept.bring_up_to_date()
                return kept.known
            except DatabaseError:
                pass  # this login may only read, or the database is gone: then the next step fails
        return DigestsInMemory(cohort_identifiers(engine, settings)).known

    def _are_there(self, engine: Engine, *wanted: Table) -> bool:
        """Whether these tables are there; a stage may have made them since they were asked for."""
        for again in (False, True):
            if again:
                database.forget_answers(engine)
            with database.reading(engine) as connection:
                if all(database.has_table(connection, table) for table in wanted):
                    return True
        return False

    def _allowed(self) -> list[str]:
        """Values of parameters, which a record may hold even if a child has the same name."""
        fields = type(self._settings).model_fields
        values = [saved_setting(name, getattr(self._settings, name)) for name in fields]
        return [*fields, *(str(value) for value in values if value is not None)]


class _Cohort:
    """Says which forms the cohort has. Remembers its answers until it is renewed.

    A log line is searched as well, and looking something up may write log lines itself. Of those
    only what is remembered is taken out; they hold no value (`safe_logging`).
    """

    def __init__(self) -> None:
        self._ask: Known | None = None  # None: nothing could be read so far
        self._answers: dict[str, bool] = {}
        self._asking = threading.local()
        self.looked_at = False
        self.missed = False  # a question had no answer

    def renew(self, make: Callable[[], Known]) -> bool:
        """Take a new way of asking, and forget the answers; changes nothing where there is none.

        Returns:
            Whether it could be made.
        """
        self.looked_at = self._asking.now = True
        try:
            ask = make()
        except DatabaseError:
            self.missed |= self._ask is None
            return False
        finally:
            self._asking.now = False
        self._ask, self._answers, self.missed = ask, {}, False
        return True

    def known(self, forms: Collection[str]) -> set[str]:
        """Which of these forms the cohort has, as far as it can be asked."""
        new = [form for form in forms if form not in self._answers]
        # after one question without an answer no further one waits for the database
        if new and self._ask and not self.missed and not getattr(self._asking, "now", False):
            self._asking.now = True
            try:
                found = set(self._ask(new))
                self._answers |= {form: form in found for form in new}
            except DatabaseError:
                self.missed = True
            finally:
                self._asking.now = False
        return {form for form in forms if self._answers.get(form)}

    def stop(self) -> None:
        """Ask no more: the database is closed."""
        self._ask = None
