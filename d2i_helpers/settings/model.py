"""Every parameter of a run: its type, default, limits and meaning; and the names of secrets."""

from __future__ import annotations

import datetime as dt
import re
import types
import typing
import unicodedata
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from d2i_helpers.errors import SettingsError
from d2i_helpers.hand_written import BYTE_ORDER_MARK, Unreadable, parse_yaml
from d2i_helpers.settings import storage_url
from d2i_helpers.settings.receipts import receipt_pattern
from d2i_helpers.settings.root import project_root
from d2i_helpers.settings.shard import Shard, read_shard

ENV_PREFIX = "D2I_"
Share = float
PATHS = ("spec_overlay", "outputs_dir", "ca_bundle", "receiver_store", "receiver_faults")
WEB_ADDRESSES = ("api_base_url", "token_url", "webhook_url")
_QUOTE = (
    "text is expected, and a number, a date or true/false came, whose zeros and spelling may be "
    "lost: quote it (papermill: `-r NAME VALUE` keeps what was typed)"
)
_WINDOWS = (
    "in double quotes a backslash begins an escape; put a Windows path in single quotes or in none"
)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_VARIABLE = re.compile(r"\$\{|^\$\w|%\w+%")


class Settings(BaseModel):
    """Every parameter of a run. Field descriptions are what `docs/parameters.md` shows."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    # what and where
    profile: str = Field("demo", description="name of the profile, a file in params/")
    la_code: str = Field(
        "000", pattern=r"^[0-9]{3}$", description="DfE code of the authority, 3 digits"
    )
    cms: Literal["generic", "systemc", "mosaic", "eclipse", "azeus"] = Field(
        "generic", description="case-management system; chooses an overlay of the specification"
    )
    spec_overlay: str | None = Field(None, description="the LA's own overlay of the specification")
    outputs_dir: str = Field("outputs", description="where run records go")
    records_url: str | None = Field(
        None,
        description="object storage to which run records are carried over, and where runs of many "
        "machines keep one ledger, such as s3://bucket/folder (docs/object_storage.md)",
    )
    run_id: str | None = Field(None, description="id of the run; given by the runner")

    # database
    database_url: str = Field(
        "sqlite:///outputs/demo/ssd.sqlite",
        description="SQLAlchemy URL of the database that holds the SSD, without a password",
    )
    sql_server: str | None = Field(
        None,
        description="SQL Server by its parts in place of `database_url`: its name with the domain; "
        r"also `host\instance` or `host,port`",
    )
    sql_server_instance: str | None = Field(
        None, pattern=r"^[\w$#-]+$", description="its instance, where it is not the default one"
    )
    sql_server_port: int | None = Field(
        None, ge=1, le=65535, description="its port, in place of an instance; null: 1433"
    )
    sql_server_database: str | None = Field(
        None, pattern=r"^[\w.$# -]+$", description="the database that holds the SSD"
    )
    sql_server_login: str | None = Field(
        None,
        pattern=r"^[\w.@$\\-]+$",
        description="a login of SQL Server, with its password in D2I_DATABASE_PASSWORD; null: the "
        "Windows account that this runs as",
    )
    sql_server_driver: str | None = Field(
        None,
        pattern=r"^[\w. ()-]+$",
        description="name of the ODBC driver; null: Microsoft's newest on this machine",
    )
    sql_server_encrypt: Literal["mandatory", "strict", "optional"] = Field(
        "mandatory",
        description="whether the connection is encrypted (strict: TDS 8, SQL Server 2022 and "
        "later; optional: only if the server insists)",
    )
    sql_server_trust_certificate: bool = Field(
        False, description="take any certificate; see setup.md, *Encryption*, first"
    )
    sql_server_certificate_name: str | None = Field(
        None,
        pattern=r"^[\w.*-]+$",
        description="the server's name in its certificate, where it is another",
    )
    sql_server_intent: Literal["read_write", "read_only"] = Field(
        "read_write",
        description="application intent; read_only leads to a readable replica, where only "
        "looking works: a run writes",
    )
    ssd_schema: str | None = Field(None, description="schema of the SSD tables")
    staging_schema: str | None = Field(None, description="schema of the staging tables")
    staging_table: str = Field("ssd_api_data_staging", description="staging table")
    anon_table: str = Field("ssd_api_data_staging_anon", description="its anonymised twin")
    connect_timeout: int = Field(15, ge=1, le=600, description="seconds to wait for the database")
    statement_timeout: int = Field(
        600, ge=0, le=86400, description="seconds one SQL statement may take; 0: no limit"
    )
    lock_timeout: int = Field(
        60,
        ge=0,
        le=86400,
        description="seconds a statement waits for what another transaction holds (Oracle: "
        "`statement_timeout`); 0: no limit",
    )

    shard: str | None = Field(
        None,
        description="k/n, such as 2/4: this process works on its part of the children, and n of "
        "them on all (docs/shards.md); null: on all children",
    )
    shard_wait: float = Field(
        20.0,
        ge=0,
        description="seconds from its beginning for which a shard waits, before its guards judge "
        "the day, for shards that have not begun; for those at work it waits longer",
    )

    # extract
    run_date: dt.date | None = Field(None, description="day of the run; null: today")
    person_ids: tuple[str, ...] = Field((), description="only these person ids (a pilot)")
    extract_scope: Literal["full", "header"] = Field(
        "full", description="header: ids and child details only; full: everything"
    )
    statutory_cohort_table: str | None = Field(
        None, description="table with a person_id column: only children in it are sent"
    )
    chunk_size: int = Field(1000, ge=1, le=10000, description="children read and written at a time")
    reassess: bool = Field(
        False,
        description="make every document anew, also of children whose rows have not changed; for "
        "one run",
    )
    unborn_due_after_window: bool = Field(
        False, description="also take unborn children due after tomorrow"
    )
    expected_dob_as_dob: bool = Field(
        False, description="where the birth date is missing, judge the age by the expected one"
    )
    cp_plan_inclusion: bool = Field(False, description="a CP plan in the window is enough to be in")
    disability_inclusion: bool = Field(False, description="any disability is enough to be in")
    care_leaver_window: bool = Field(
        False, description="care-leaver contact must lie in the window"
    )
    repeat_person_facts: Literal["every_episode", "one_episode"] = Field(
        "every_episode", description="adoption and care leaver on every episode, or on one"
    )
    care_worker_roles: tuple[str, ...] = Field(("CW",), description="roles sent as care workers")
    volatile_ids: bool | None = Field(
        None,
        description="leave item ids out of change detection; null: as `cms` asks",
    )

    # guards
    max_deleted_share: Share = Field(0.1, ge=0, le=1, description="share of children that may go")
    max_purged_items_share: Share = Field(
        0.1, ge=0, le=1, description="share of a block's items that may go (episodes, plans, ...)"
    )
    max_lost_rows_share: Share = Field(
        0.1,
        ge=0,
        le=1,
        description="share of a source table's rows, and of a column's values, that may be gone "
        "since the last completed run",
    )
    max_unusable_share: Share = Field(
        0.5,
        ge=0,
        le=1,
        description="share of a source column's values that may be unusable; also on a first load",
    )
    allow_fewer_rows: tuple[str, ...] = Field(
        (),
        description="source tables that may have lost any number of rows, or all, and columns "
        "(table.column) that may have lost their values; for one run",
    )
    max_changed_share: Share = Field(
        0.5, ge=0, le=1, description="share of children that may change"
    )
    allow_older_database: bool = Field(
        False,
        description="go on with a database that was put back to a state before the last runs; for "
        "one run",
    )
    guard_min_children: int = Field(
        20, ge=0, description="shares are not judged while there are fewer children than this"
    )

    # anonymise
    pseudonym_key_mode: Literal["kept", "fresh"] = Field(
        "kept", description="kept: the key from the secret store; fresh: a new key each run"
    )
    max_date_shift_days: int = Field(
        183, ge=1, le=365, description="largest shift of a child's dates"
    )
    phase_data: Literal["cohort", "single_fake", "many_fake", "single_scrambled"] = Field(
        "cohort", description="what the anonymised table holds (test phases)"
    )
    fake_children: int = Field(50, ge=1, le=10000, description="children made for many_fake")

    # delta and submit
    phase: Literal["delta", "full"] = Field("delta", description="what is sent of a changed child")
    cleared_fields: Literal["null", "omit"] = Field(
        "null", description="a field that is gone: sent as null, or left out"
    )
    source: Literal["identifiable", "anonymised"] = Field(
        "identifiable", description="which of the two staging tables is sent"
    )
    endpoint: Literal["simulated", "test", "live"] = Field("simulated", description="receiver")
    api_base_url: str | None = Field(None, description="base URL of the API, before the LA code")
    token_url: str | None = Field(None, description="OAuth2 token endpoint")
    token_scope: str | None = Field(None, description="OAuth2 scope")
    batch_size: int = Field(100, ge=1, le=100, description="children a request, at most 100")
    max_batch_bytes: int = Field(4_000_000, ge=1000, description="bytes a request, at most")
    max_in_flight: int = Field(1, ge=1, le=16, description="requests under way at once")
    pause_seconds: float = Field(0.5, ge=0, le=60, description="pause between two requests")
    attempts: int = Field(4, ge=1, le=20, description="tries of one request")
    wait_initial: float = Field(5.0, ge=0, le=600, description="first wait before a retry, seconds")
    wait_max: float = Field(120.0, ge=0, le=3600, description="longest wait, seconds")
    connect_timeout_api: float = Field(10.0, gt=0, le=600, description="seconds to connect")
    read_timeout_api: float = Field(
        60.0, gt=0, le=3600, description="seconds for a whole answer once the request is out"
    )
    breaker_batches: int = Field(
        5, ge=1, description="whole requests refused in a row before the run stops early"
    )
    receipt_form: str | None = Field(
        None,
        description="shape of a receipt, such as `'{date}_{time}_{id}.json'` (parts: date, time, "
        "id, number); null: the DfE's",
    )
    user_agent: str = Field("D2I-workbook/0.1 (python-requests)", description="User-Agent header")
    proxy: str | None = Field(None, description="proxy URL, without credentials")
    ca_bundle: str | None = Field(None, description="file of the CA certificates to trust")
    preflight_probe: Literal["token", "empty", "record", "record_even_live"] = Field(
        "token",
        description="what preflight asks of the receiver: a token only; also an answer to an empty "
        "request; also one fake record, which it purges (`record_even_live`: at the live one too)",
    )
    dry_run: bool = Field(False, description="send nothing; show what would be sent")
    live_approver: str | None = Field(None, description="who signed off live sending")
    live_approved_on: dt.date | None = Field(None, description="when")
    live_la_code: str | None = Field(None, description="the LA code that was signed off")
    tolerate_child_errors: bool = Field(
        False, description="exit 0 even when some children need attention"
    )

    # runner
    stage_timeout: int = Field(14400, ge=1, description="seconds one stage may take")
    log_level: Literal["warning", "info", "debug"] = Field(
        "warning", description="from where on libraries' log lines are kept, without any value"
    )
    webhook_url: str | None = Field(None, description="where a summary is posted after the run")

    # fictional data and the simulated receiver
    simulate_children: int = Field(500, ge=1, description="size of the fictional SSD")
    simulate_seed: int = Field(1, description="seed of the fictional SSD")
    receiver_store: str = Field(
        "outputs/demo/receiver.sqlite",
        description="file in which the simulated API keeps what it got",
    )
    receiver_port: int = Field(0, ge=0, le=65535, description="its port; 0: any free one")
    receiver_faults: str | None = Field(None, description="YAML file of faults that it plays")
    receiver_merge: Literal["merge", "replace"] = Field(
        "merge", description="how it applies a partial block: key by key, or whole"
    )

    # pydantic asks the validators of one field from the last to the first
    @field_validator("*", mode="before")
    @classmethod
    def _is_text(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a number or truth value for text: zeros or the spelling are lost in it."""
        name = info.field_name or ""
        if declared(name) == "text" and value is not None:
            _require_text(value)
        return value

    @field_validator("person_ids", "care_worker_roles", "allow_fewer_rows", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """A list of texts. It may be given as one text: in brackets, or separated by commas."""
        if value is None:
            return ()
        if isinstance(value, str) and value.strip().startswith("["):
            value = _bracketed(value)
        elif isinstance(value, str):
            if value.strip() and not value.strip(", \t"):
                # as variables leave it that nobody set; of `person_ids` nothing means everybody
                raise ValueError("it has commas and no entry")
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple):
            raise ValueError(_QUOTE)
        for part in value:
            _require_text(part)
            if not part.strip():
                raise ValueError("an entry of the list is empty")
        return tuple(part.strip() for part in value)

    @field_validator("la_code", "live_la_code", mode="before")
    @classmethod
    def _digits(cls, value: Any) -> Any:
        """Take a number of three figures as text; a shorter one may have lost a zero."""
        whole = isinstance(value, int) and not isinstance(value, bool)
        return str(value) if whole and 100 <= value <= 999 else value

    @field_validator("run_date", "live_approved_on", mode="before")
    @classmethod
    def _date(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None or (info.field_name == "run_date" and value in ("", "today")):
            return None
        if isinstance(value, str) and _DATE.fullmatch(value.strip()):
            return value.strip()
        if type(value) is dt.date:
            return value
        raise ValueError("write the day as YYYY-MM-DD")

    @field_validator("cleared_fields", mode="before")
    @classmethod
    def _null_is_a_word_here(cls, value: Any) -> Any:
        return "null" if value is None else value

    @field_validator(*PATHS)
    @classmethod
    def _usable_path(cls, value: str | None) -> str | None:
        if value is None:
            return value
        if _VARIABLE.search(value):
            raise ValueError("a variable is not put into a path: write the path out")
        if "\xa0" in value:  # what YAML makes of a backslash and a low line
            raise ValueError(f"it holds a blank that cannot be seen: {_WINDOWS}")
        if value.startswith("~"):
            try:
                Path(value).expanduser()
            except RuntimeError:
                raise ValueError("the home folder that `~` stands for is not known") from None
        return value

    @field_validator(*WEB_ADDRESSES)
    @classmethod
    def _usable_address(cls, value: str | None) -> str | None:
        if not value:
            return value
        try:
            parts = urlsplit(value)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            whole = False
        if not whole:
            raise ValueError("write the whole address, such as https://host/path")
        return value

    @field_validator("records_url")
    @classmethod
    def _storage(cls, value: str | None) -> str | None:
        return storage_url.checked(value) if value else None

    @field_validator("user_agent")
    @classmethod
    def _fits_a_header(cls, value: str) -> str:
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError("it holds a letter that no HTTP header can carry") from None
        return value

    @field_validator("staging_table", "anon_table", "statutory_cohort_table")
    @classmethod
    def _table_name(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and not value.replace(".", "_").replace("_", "a").isalnum():
            raise ValueError("a table name has letters, digits and underscores only")
        if value is not None and "." in value and info.field_name != "statutory_cohort_table":
            # a new table of that whole name would be made, beside the one that is meant
            raise ValueError("it is a table without its schema, which goes into `staging_schema`")
        return value

    @field_validator("receipt_form")
    @classmethod
    def _form(cls, value: str | None) -> str | None:
        receipt_pattern(value)
        return value

    @field_validator("shard")
    @classmethod
    def _shard(cls, value: str | None) -> str | None:
        shard = read_shard(value)
        return None if shard.is_whole else str(shard)

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.staging_table.lower() == self.anon_table.lower():
            raise ValueError("staging_table and anon_table must be two tables")
        if not self.part.is_whole:
            # each process would have a key of its own; made-up children and pilots are few
            one_process = {
                "person_ids": bool(self.person_ids),
                "phase_data": self.phase_data != "cohort",
                "pseudonym_key_mode": self.pseudonym_key_mode == "fresh",
            }
            if names := [name for name, is_given in one_process.items() if is_given]:
                raise ValueError(f"shard cannot be given together with this {', '.join(names)}")
        return self

    @property
    def today(self) -> dt.date:
        """The day of the run."""
        return self.run_date or dt.date.today()

    @property
    def part(self) -> Shard:
        """The children that this process works on."""
        return read_shard(self.shard)

    @property
    def send_table(self) -> str:
        """Name of the staging table that `delta` and `submit` work on."""
        return self.anon_table if self.source == "anonymised" else self.staging_table

    @property
    def overlay_path(self) -> Path | None:
        """The LA's own overlay of the specification, if there is one."""
        return self.path(self.spec_overlay) if self.spec_overlay else None

    def path(self, relative: str) -> Path:
        """A path of a setting: absolute as it is, relative to the project's root; ``~`` is home.

        Raises:
            SettingsError: the home folder is not known.
        """
        try:
            given = Path(relative).expanduser()
        except RuntimeError:
            raise SettingsError("The home folder that `~` stands for is not known.") from None
        return given if given.is_absolute() else project_root() / given


class Secrets(BaseModel):
    """Everything that must never be saved or shown; `SecretStr` masks each in every repr."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    database_password: SecretStr | None = None
    client_id: SecretStr | None = None
    client_secret: SecretStr | None = None
    supplier_key: SecretStr | None = None
    pseudonym_key: SecretStr | None = None
    ledger_key: SecretStr | None = None
    proxy_user: SecretStr | None = None
    proxy_password: SecretStr | None = None

    def values(self) -> list[str]:
        """All secrets in force as plain text, for the redactor only."""
        held = (getattr(self, name) for name in type(self).model_fields)
        return [secret.get_secret_value() for secret in held if secret is not None]


def declared(name: str) -> str:
    """The declared type of a parameter: text, list, or the name of another type."""
    annotation = Settings.model_fields[name].annotation
    kinds = {_kind(part) for part in _alternatives(annotation) if part is not type(None)}
    return kinds.pop() if len(kinds) == 1 else str(annotation)


def may_be_none(name: str) -> bool:
    """Whether a parameter may be without a value."""
    return type(None) in _alternatives(Settings.model_fields[name].annotation)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if union else (annotation,)


def _kind(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    if annotation is str or origin is Literal:
        return "text"
    return "list" if origin is tuple else annotation.__name__


def _require_text(value: Any) -> None:
    """Raise ValueError if the value is no text, or not text on one line."""
    if not isinstance(value, str):
        raise ValueError(_QUOTE)
    if BYTE_ORDER_MARK in value or any(
        unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in value
    ):
        raise ValueError(f"it holds a line break, a tab or another control character: {_WINDOWS}")
    if any(unicodedata.category(letter) == "Cs" for letter in value):  # bytes that Python kept
        raise ValueError("it holds bytes that are no letters here: have the terminal use UTF-8")


def _bracketed(text: str) -> Any:
    try:
        return parse_yaml(text)
    except Unreadable:
        raise ValueError("the list in brackets is not closed, or a quote in it is not") from None
