"""Databases: how they are opened, asked and written, and what is deployed in them.

`dialects` is the one place that knows where databases differ.
"""

from d2i_helpers.database.catalogue import (
    columns_present,
    has_schema,
    has_table,
    indexed_columns,
    json_columns,
    real_schema,
)
from d2i_helpers.database.connections import open_database
from d2i_helpers.database.deployment import (
    column_statement,
    create_staging,
    grant_statements,
    index_statement,
    login_name,
    schema_statements,
    table_statements,
)
from d2i_helpers.database.transactions import _explained as _explained
from d2i_helpers.database.transactions import (
    as_bytes,
    as_raw_text,
    in_batches,
    locking,
    ping,
    reading,
    transaction,
    utc_now,
)

__all__ = [
    "as_bytes",
    "as_raw_text",
    "column_statement",
    "columns_present",
    "create_staging",
    "grant_statements",
    "has_schema",
    "has_table",
    "in_batches",
    "index_statement",
    "indexed_columns",
    "json_columns",
    "locking",
    "login_name",
    "open_database",
    "ping",
    "reading",
    "real_schema",
    "schema_statements",
    "table_statements",
    "transaction",
    "utc_now",
]
