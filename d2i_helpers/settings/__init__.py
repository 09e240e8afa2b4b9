"""Typed parameters and secrets: one place that knows every setting, its default and its limits.

A parameter comes from, first wins: the notebook or command line, the environment
(``D2I_<NAME>``), ``.env``, the profile ``params/<profile>.yaml``, the default here. Unknown names
are errors. Secrets come only from the environment, ``.env``, a secrets directory
(``D2I_SECRETS_DIR``) or the OS keyring: papermill saves parameters, so a secret is never one.
"""

from d2i_helpers.settings.environment import (
    read_variables,
    refuse_unknown,
    said_of,
    unknown_variables,
)
from d2i_helpers.settings.loading import (
    as_declared,
    check_addresses,
    check_profile,
    load_settings,
    parameters_in_environment,
    read_profile,
)
from d2i_helpers.settings.model import ENV_PREFIX, Secrets, Settings
from d2i_helpers.settings.root import WORKBOOK_VARIABLE, is_workbook, project_root
from d2i_helpers.settings.secret_store import has_keyring, ledger_key, load_secrets
from d2i_helpers.settings.shard import MOST_SHARDS, WHOLE, Shard, read_shard

__all__ = [
    "ENV_PREFIX",
    "MOST_SHARDS",
    "WHOLE",
    "WORKBOOK_VARIABLE",
    "Secrets",
    "Settings",
    "Shard",
    "as_declared",
    "check_addresses",
    "check_profile",
    "has_keyring",
    "is_workbook",
    "ledger_key",
    "load_secrets",
    "load_settings",
    "parameters_in_environment",
    "project_root",
    "read_profile",
    "read_shard",
    "read_variables",
    "refuse_unknown",
    "said_of",
    "unknown_variables",
]
