"""Connections to a ClickHouse server over HTTP or HTTPS; which versions will do; what to do about a refusal."""

from __future__ import annotations

import ssl
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import urllib3.exceptions as http
from clickhouse_connect.driver.exceptions import DatabaseError

from limelight_collector.errors import StartupRefused

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from limelight_collector.settings import Settings

OLDEST = (26, 3)
"""The oldest server that is taken: full-text search needs `caseFoldUTF8`. The engine that everything is tested with is
that of chDB, 26.9.
"""

CHANGING = {
    # An insert returns when its rows are on disk, whatever the server's defaults say: the spool lets go of them then.
    "async_insert": 0,
    "wait_for_async_insert": 1,
    # Copies collapse by key. A block that looks familiar to the server must be taken all the same: its first attempt
    # may have failed in a view, and what was deleted since may come again.
    "insert_deduplicate": 0,
}
"""Settings of each connection that changes what a server stores."""

ON_CLUSTER = {
    # A subquery over another distributed table is answered once and sent along, wherever its rows lie.
    "distributed_product_mode": "global",
    "skip_unavailable_shards": 0,  # a shard that is away is an error and not a smaller answer
}
"""Settings of each connection to a cluster."""
CHANGING_CLUSTER = {
    "distributed_foreground_insert": 1,  # returns when every shard has its rows, as `async_insert` above
    "parallel_distributed_insert_select": 0,  # sums of the whole are stored, not those of each shard
    "mutations_sync": 2,  # done on every replica
    "alter_sync": 2,
}
"""The same of those that change what a cluster stores."""


def server_settings(settings: Settings, engine_settings: Mapping[str, Any]) -> dict[str, str]:
    """`engine_settings` and what a connection of their kind to a server or cluster needs besides."""
    reads = "readonly" in engine_settings
    wanted: dict[str, Any] = {} if reads else dict(CHANGING)
    wanted |= engine_settings
    if settings.clickhouse_cluster:  # `readonly` stays last
        wanted = ON_CLUSTER | wanted if reads else wanted | ON_CLUSTER | CHANGING_CLUSTER
    return {name: str(value) for name, value in wanted.items()}


_ANSWER_S = 30.0
"""Seconds that an answer may take beyond what the statement itself is allowed; an insert has no other limit."""
_UNKNOWN_DATABASE = 81
_READONLY = 164
_HINTS = {
    81: "the database does not exist",
    164: "the user may only read: give it a profile without `readonly`",
    192: "wrong user or password",
    193: "wrong user or password",
    194: "wrong user or password",
    243: "the server's disk is full",
    452: "the user's profile forbids a setting that Limelight needs",
    497: "the user is not allowed to",
    516: "wrong user or password: check the user in LIMELIGHT_CLICKHOUSE_URL and LIMELIGHT_CLICKHOUSE_PASSWORD[_FILE]",
}


def connect_server(settings: Settings, engine_settings: Mapping[str, str], *, database: str | None = None) -> Client:
    """A new connection; `StartupRefused` for settings that cannot be meant, else what the driver raises.

    Retries are the caller's affair (the writer waits and tries again), but for one of a query whose kept-alive
    connection turned out closed.
    """
    parts = urlsplit(settings.clickhouse_url)
    limit_s = float(engine_settings.get("max_execution_time", 0))
    tls: dict[str, Any] = {}
    if parts.scheme == "https":
        tls["verify"] = settings.clickhouse_verify
        if settings.clickhouse_ca_file is not None:
            tls["ca_cert"] = str(settings.clickhouse_ca_file)
    return clickhouse_connect.get_client(
        interface=parts.scheme,  # the driver would take https:// on port 9000 for plain HTTP, password and all
        host=parts.hostname,
        port=parts.port or (8443 if parts.scheme == "https" else 8123),
        username=unquote(parts.username or "default"),
        password=_password(settings),
        database=database_of(settings) if database is None else database,
        settings=dict(engine_settings),
        autogenerate_session_id=False,
        connect_timeout=max(1, round(settings.clickhouse_connect_timeout_s)),
        send_receive_timeout=round(limit_s + _ANSWER_S) if limit_s else round(settings.clickhouse_insert_timeout_s),
        query_retries=1,
        **tls,
    )


def database_of(settings: Settings) -> str:
    """The database that the URL names; `default` where it names none."""
    return unquote(urlsplit(settings.clickhouse_url).path.strip("/").split("/")[0]) or "default"


def prepare(settings: Settings, *, dry_run: bool = False) -> bool:
    """Whether the URL's database is there, which is created where it is not (and this is no dry run).

    `StartupRefused` for a URL that is none and for a server older than `OLDEST`; else what the driver raises.
    """
    _check_url(settings)
    is_there = True
    try:
        client = connect_server(settings, {})
    except DatabaseError as error:
        if error.code != _UNKNOWN_DATABASE:
            raise
        is_there = False
        client = connect_server(settings, {}, database="")
    try:
        _require_version(client)
        if settings.clickhouse_cluster:
            _require_cluster(client, settings.clickhouse_cluster)
        if not is_there and not dry_run:
            on_cluster = f" ON CLUSTER '{settings.clickhouse_cluster}'" if settings.clickhouse_cluster else ""
            client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(database_of(settings))}{on_cluster}")
    finally:
        client.close()
    return is_there or not dry_run


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def explained(error: Exception) -> str:
    """One line about an error of the driver: what is wrong where that is known, then the server's own words."""
    for cause in _causes(error):
        said = str(cause)
        if isinstance(cause, http.NameResolutionError):
            return "the host name cannot be resolved"
        if isinstance(cause, ssl.SSLError | http.SSLError):
            return _tls(said)
        if isinstance(cause, http.ProtocolError) and "RemoteDisconnected" in said:
            return "it closes the connection without a word (a port of TLS needs https:// in the URL)"
        if isinstance(cause, ConnectionRefusedError):
            return "nothing listens there (connection refused)"
        if isinstance(cause, http.ReadTimeoutError | http.ConnectTimeoutError) and "timed out" in said:
            return "it does not answer in time"
    code: int | None = getattr(error, "code", None)
    if "unknown or readonly" in str(error):  # the driver's own check of our settings against the user's profile
        code = _READONLY
    own = " ".join(str(error).split())[:300]
    return f"{_HINTS[code]} ({own})" if code in _HINTS else own


def _check_url(settings: Settings) -> None:
    """`StartupRefused` where LIMELIGHT_CLICKHOUSE_URL is not an address of ClickHouse's HTTP interface."""
    parts = urlsplit(settings.clickhouse_url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise StartupRefused("LIMELIGHT_CLICKHOUSE_URL must be http[s]://user@host:port/database")
    if port == 9000:
        raise StartupRefused("LIMELIGHT_CLICKHOUSE_URL: 9000 is the native port; HTTP is 8123, HTTPS 8443")


def _require_version(client: Client) -> None:
    """`StartupRefused` where the server is older than `OLDEST`."""
    numbers = (client.server_version or "").split(".")
    found = tuple(int(number) for number in numbers[:2] if number.isdigit())
    if len(found) == 2 and found < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise StartupRefused(
            f"the ClickHouse server has version {client.server_version}; Limelight needs {oldest} or newer: upgrade it"
        )


def _require_cluster(client: Client, name: str) -> None:
    """`StartupRefused` where the server does not know the cluster, or would write every row to every replica."""
    hosts = [row for row in client.query("SELECT * FROM system.clusters").named_results() if row["cluster"] == name]
    if not hosts:
        raise StartupRefused(f"the server knows no cluster '{name}': see remote_servers in its configuration")
    if not all(int(host.get("internal_replication", 1)) for host in hosts):
        raise StartupRefused(f"cluster '{name}': set internal_replication to true for each shard in remote_servers")


def _password(settings: Settings) -> str:
    """The password of a file, of the environment, or of the URL, in this order."""
    if settings.clickhouse_password_file is not None:
        try:
            return settings.clickhouse_password_file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise StartupRefused(f"LIMELIGHT_CLICKHOUSE_PASSWORD_FILE cannot be read: {error}") from None
    if settings.clickhouse_password is not None:
        return settings.clickhouse_password.get_secret_value()
    return unquote(urlsplit(settings.clickhouse_url).password or "")


def _tls(said: str) -> str:
    if "WRONG_VERSION_NUMBER" in said:
        return "it does not speak TLS there: use http://, or the HTTPS port (8443)"
    if "No such file" in said or "Is a directory" in said:
        return "TLS: LIMELIGHT_CLICKHOUSE_CA_FILE cannot be read"
    hint = "; LIMELIGHT_CLICKHOUSE_CA_FILE names the authority to trust" if "CERTIFICATE_VERIFY_FAILED" in said else ""
    return f"TLS: {' '.join(said.split())[:200]}{hint}"


def _causes(error: BaseException) -> Generator[BaseException]:
    """The error, what it was raised from, and what urllib3 wraps in `reason`."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        cause = pending.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        reason: Any = getattr(cause, "reason", None)
        pending += [cause.__cause__, reason if isinstance(reason, BaseException) else None]
