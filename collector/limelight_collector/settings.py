"""Every setting of the server: declared once, with its type, default and one sentence.

Precedence: command-line flag > `LIMELIGHT_*` environment > `limelight.toml` in the working directory > default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from limelight_collector.errors import StartupRefused


class Settings(BaseSettings):
    """Settings of `limelight up`, `collector`, `dashboard` and `migrate`."""

    model_config = SettingsConfigDict(env_prefix="LIMELIGHT_", toml_file="limelight.toml", extra="ignore")

    data_dir: Path = Field(
        Path("limelight-data"), description="Directory of the embedded store, the spool and the control database."
    )
    clickhouse_url: str = Field(
        "", description="ClickHouse server, `http[s]://user@host:port/database`; empty = embedded chDB in data_dir."
    )
    clickhouse_password: SecretStr | None = Field(None, description="Password for clickhouse_url, kept out of the URL.")
    clickhouse_password_file: Path | None = Field(
        None, description="File that holds the password for clickhouse_url (a mounted secret)."
    )
    clickhouse_ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the server's certificate, for https."
    )
    clickhouse_verify: bool = Field(
        default=True, description="Check the server's certificate; false encrypts and trusts whoever answers."
    )
    clickhouse_connect_timeout_s: float = Field(5.0, gt=0, description="Longest wait for a connection to the server.")
    clickhouse_insert_timeout_s: float = Field(
        120.0, gt=0, description="Longest wait for the server to take a batch; then it is sent again."
    )
    clickhouse_cluster: str = Field(
        "", pattern=r"^[A-Za-z0-9_.-]{0,64}$", description="Name of the ClickHouse cluster to spread the tables over."
    )
    control_url: str = Field("", description="SQLAlchemy URL of the control database; empty = SQLite in data_dir.")
    host: str = Field("127.0.0.1", description="Address to listen on; any other than loopback needs at least one key.")
    http_port: int = Field(4318, ge=0, le=65535, description="OTLP/HTTP, API, health and metrics.")
    grpc_port: int = Field(4317, ge=0, le=65535, description="OTLP/gRPC.")
    dashboard_port: int = Field(8501, ge=0, le=65535, description="The dashboard's port.")
    no_dashboard: bool = Field(default=False, description="`limelight up` without the dashboard.")
    bootstrap_key: SecretStr | None = Field(
        None, description="An admin key for project `default` accepted besides the stored ones (containers)."
    )
    body_max_bytes: int = Field(64 * 2**20, gt=0, description="Largest OTLP request, checked compressed and inflated.")
    inflight_max_bytes: int = Field(
        256 * 2**20, gt=0, description="Request bytes being decoded at one time; beyond it 503."
    )
    spool_max_bytes: int = Field(
        4 * 2**30, gt=0, description="Largest spool; beyond it 503 until the store catches up."
    )
    batch_max_spans: int = Field(5_000, gt=0, description="Most spans of one insert.")
    batch_max_wait_s: float = Field(1.0, gt=0, description="Longest time a span waits in the spool for company.")
    retention_days: int = Field(30, gt=0, description="Days a span is kept; older start times are clamped to this age.")
    text_index: bool = Field(
        default=False,
        description="Keep an index for full-text search (on or off): docs/operations.md says what it costs.",
    )
    reader_count: int = Field(4, gt=0, description="Connections that answer queries.")
    query_timeout_s: float = Field(10.0, gt=0, description="Longest query.")
    query_max_memory_bytes: int = Field(2 * 2**30, gt=0, description="Memory one query may use.")
    query_max_rows: int = Field(1_000_000, gt=0, description="Rows one answer may have; exports stream instead.")
    query_max_result_bytes: int = Field(2**28, gt=0, description="Bytes one answer may have; exports stream instead.")
    slow_query_s: float = Field(2.0, ge=0, description="Seconds from which a query is logged and counted as slow.")
    rules_file: Path | None = Field(
        None, description="YAML file of alert rules, read at start and re-read when it changes."
    )
    alert_interval_s: float = Field(15.0, gt=0, description="Seconds between two evaluations of the alert rules.")
    alert_delay_s: float = Field(
        5.0, ge=0, description="Seconds by which alert windows end before now, so that late spans are in them."
    )
    webhook_allowed_hosts: list[str] = Field(
        default_factory=list[str],
        description="Internal hosts webhooks may reach (JSON list); public https needs no entry.",
    )
    canary_interval_s: float = Field(
        60.0, ge=0, description="Seconds between two spans that the collector sends to itself and reads back; 0 = off."
    )
    min_free_bytes: int = Field(2**30, ge=0, description="Free disk space below which nothing is taken: 503.")
    public_url: str = Field(
        "", description="The dashboard's address in notifications; empty = http://127.0.0.1:<dashboard_port>."
    )
    collector_url: str = Field(
        "", description="Where the dashboard finds the collector; empty = http://<host>:<http_port>."
    )
    api_key: SecretStr | None = Field(None, description="The key the dashboard reads with.")
    log_level: str = Field("info", description="debug, info, warning or error.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flag, environment, file: in that order; .env files are not read."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load(flags: dict[str, Any] | None = None) -> Settings:
    """Settings from flags (None values are unset), environment and file; `StartupRefused` names a bad one."""
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        origin = f"--{name.replace('_', '-')}" if name in given else f"LIMELIGHT_{name.upper()} or limelight.toml"
        raise StartupRefused(f"{origin}: {first['msg']} (got {first['input']!r})") from None
