"""The check of every executed notebook against the identities of the cohort and the secrets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine

from d2i_helpers import database
from d2i_helpers.errors import D2IError, DatabaseError
from d2i_helpers.privacy.identities import cohort_identifiers
from d2i_helpers.privacy.redaction import Redactor
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
        self._known = secrets_in_force(self._secrets, settings)
        self.not_sought = secrets_not_sought(self._secrets, settings)
        self._redactor: Redactor | None = None
        self._for_logs = self._make(())
        self.engine: Engine | None = None
        self.compared = False  # whether the cohort's identities could be read
        # reading the identities may write log lines itself, so a log line never triggers it
        guard_process(lambda text: self._for_logs.redact(text)[0], level=settings.log_level)

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
        if self.engine is not None:
            self.engine.dispose()

    def renew(self) -> None:
        """Read the identities again: a stage may have changed the cohort."""
        try:
            self._redactor = self._make(cohort_identifiers(self.open(), self._settings))
            self.compared = True
        except DatabaseError:
            # the database cannot be read, as perhaps in the stage; keep the identities known so far
            self._redactor = self._redactor or self._make(())
        self._for_logs = self._redactor

    def redact(self, text: str) -> tuple[str, int]:
        """The text without identities and secrets, and how many were found."""
        if self._redactor is None:
            self.renew()
        assert self._redactor is not None
        return self._redactor.redact(text)

    def redact_json(self, value: Any) -> tuple[Any, int]:
        """The same for every text in a JSON structure."""
        if self._redactor is None:
            self.renew()
        assert self._redactor is not None
        return self._redactor.redact_json(value)

    def clean(self, error: D2IError) -> D2IError:
        """The error with a message that may be kept and shown."""
        error.message, error.hint = self.redact(error.message)[0], self.redact(error.hint)[0]
        return error

    def _make(self, identities: Iterable[str]) -> Redactor:
        return Redactor(identities, self._known, allowed=self._allowed(), today=dt.date.today())

    def _allowed(self) -> list[str]:
        """Values of parameters, which a record may hold even if a child has the same name."""
        fields = type(self._settings).model_fields
        values = [saved_setting(name, getattr(self._settings, name)) for name in fields]
        return [*fields, *(str(value) for value in values if value is not None)]
