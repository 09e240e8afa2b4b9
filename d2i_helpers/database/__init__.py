"""Databases: how they are opened, asked and written, and what is deployed in them.

`dialects` is the one place that knows where databases differ.
"""

from d2i_helpers.database.catalogue import (
    column_types,
    columns_not_of_text,
    columns_present,
    forget_answers,
    has_schema,
    has_table,
    indexed_columns,
    real_schema,
)
from d2i_helpers.database.connections import open_database
from d2i_helpers.database.deployment import (
    column_statement,
    counter_grants,
    create_staging,
    grant_statements,
    index_statement,
    login_name,
    repeated_row_statements,
    require_staging,
    schema_statements,
    table_statements,
    text_statements,
)
from d2i_helpers.database.messages import may_be_about_a_value
from d2i_helpers.database.retries import again, in_transaction, read_again
from d2i_helpers.database.transactions import (
    as_bytes,
    as_raw_text,
    constant,
    explained,
    failures,
    in_batches,
    locking,
    most_in_list,
    ping,
    reading,
    size_of,
    takes_capitals_alike,
    transaction,
    utc_now,
)
from d2i_helpers.database.writes import compare, hand_over, insert_rows, update_each, update_some

__all__ = [
    "again",
    "as_bytes",
    "as_raw_text",
    "column_statement",
    "column_types",
    "columns_not_of_text",
    "columns_present",
    "compare",
    "constant",
    "counter_grants",
    "create_staging",
    "explained",
    "failures",
    "forget_answers",
    "grant_statements",
    "hand_over",
    "has_schema",
    "has_table",
    "in_batches",
    "in_transaction",
    "index_statement",
    "indexed_columns",
    "insert_rows",
    "locking",
    "login_name",
    "may_be_about_a_value",
    "most_in_list",
    "open_database",
    "ping",
    "read_again",
    "reading",
    "real_schema",
    "repeated_row_statements",
    "require_staging",
    "schema_statements",
    "size_of",
    "table_statements",
    "takes_capitals_alike",
    "text_statements",
    "transaction",
    "update_each",
    "update_some",
    "utc_now",
]
