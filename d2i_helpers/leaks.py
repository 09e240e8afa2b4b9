"""The check of every executed notebook against the identities of the cohort and the secrets."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from sqlalchemy import Engine, select

from d2i_helpers import database, tables
from d2i_helpers.errors import D2IError, DatabaseError
from d2i_helpers.redaction import Redactor
from d2i_helpers.safe_words import saved_setting
from d2i_helpers.settings import Settings, load_secrets
from d2i_helpers.spec import Spec


class LeakCheck:
    """Redacts with what the staging table and the secret store know now.

    Args:
        settings: of the run.
        spec: the specification in force.
    """

    def __init__(self, settings: Settings, spec: Spec) -> None:
        self._settings, self._spec = settings, spec
        self._secrets = load_secrets()
        self._redactor: Redactor | None = None
        self.engine: Engine | None = None
        self.compared = False  # whether the cohort's identities could be read

    def open(self) -> Engine:
        """The run's database.

        Raises:
            DatabaseError: it cannot be opened.
        """
        if self.engine is None:
            self.engine = database.open_database(self._settings, self._secrets)
        return self.engine

    def close(self) -> None:
        """Give the database's connections back."""
        if self.engine is not None:
            self.engine.dispose()

    def renew(self) -> None:
        """Read the identities again: a stage may have changed the cohort."""
        try:
            self._redactor = self._make(self._identities())
            self.compared = True
        except DatabaseError:
            # nothing can be read, as perhaps the stage could not; what is known already serves
            self._redactor = self._redactor or self._make(())

    def redact(self, text: str) -> tuple[str, int]:
        """The text without identities and secrets, and how many were found."""
        if self._redactor is None:
            self.renew()
        assert self._redactor is not None
        return self._redactor.redact(text)

    def clean(self, error: D2IError) -> D2IError:
        """The error with a message that may be kept and shown."""
        error.message = self.redact(error.message)[0]
        return error

    def _make(self, identities: Iterator[str] | tuple[str, ...]) -> Redactor:
        return Redactor(
            identities, self._secrets.values(), allowed=self._allowed(), today=dt.date.today()
        )

    def _allowed(self) -> list[str]:
        """Parameters may stand in a record; they are no identities, whatever a child is called."""
        fields = type(self._settings).model_fields
        values = [saved_setting(name, getattr(self._settings, name)) for name in fields]
        return [*fields, *(str(value) for value in values if value is not None)]

    def _identities(self) -> Iterator[str]:
        import orjson

        from d2i_helpers.identities import collector

        collect = collector(self._spec)
        table = tables.staging_table(self._settings.staging_table)
        with database.reading(self.open()) as connection:
            if not database.has_table(connection, table):
                return
            query = select(table.c.person_id, table.c.legacy_id, table.c.json_payload)
            for row in connection.execution_options(yield_per=1000).execute(query):
                yield row.person_id
                if row.legacy_id:
                    yield row.legacy_id
                try:
                    document = orjson.loads(row.json_payload)
                except orjson.JSONDecodeError:
                    continue
                for _, value in collect(document).values:
                    yield value
