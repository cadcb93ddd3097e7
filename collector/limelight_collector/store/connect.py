"""Connections to the engine, embedded (chDB) or a server: how they are made, what they may use, why one is refused."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from limelight_collector.errors import StartupRefused
from limelight_collector.store.server import connect_server, explained, server_settings
from limelight_migrations.clickhouse import NewerSchema
from limelight_migrations.destructive import DestructiveMigration

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from limelight_collector.settings import Settings

_CHDB_OPTIONS = {
    # Small caches: an idle collector must stay below 450 MB; the page cache does the rest.
    "mark_cache_size": 128 * 2**20,
    "background_schedule_pool_size": 2,
    "background_common_pool_size": 1,
}

UPKEEP = {
    "max_execution_time": 3600,
    "do_not_merge_across_partitions_select_final": 1,
    "prefer_column_name_to_alias": 1,
    "mutations_sync": 2,  # an ALTER … DELETE or UPDATE returns when it is done, on every replica
    "allow_nondeterministic_mutations": 1,  # retention asks which traces are kept; a replicated table would refuse
    "max_partitions_per_insert_block": 0,
}
"""The engine settings of the connection for rollups, retention and deletions."""


def connect(settings: Settings, engine_settings: Mapping[str, Any]) -> Client:
    """A new connection with these engine settings; raises what the driver raises."""
    if not settings.clickhouse_url:
        path = settings.data_dir / "store"
        path.mkdir(parents=True, exist_ok=True)
        options = {**_CHDB_OPTIONS, "max_server_memory_usage": settings.query_max_memory_bytes + 2**30}
        given = {name: str(value) for name, value in engine_settings.items()}
        return clickhouse_connect.get_client(interface="chdb", path=str(path), chdb_options=options, settings=given)
    return connect_server(settings, server_settings(settings, engine_settings))


def reader_limits(settings: Settings, **overrides: Any) -> dict[str, Any]:
    """The engine settings of a connection that answers questions."""
    return {
        "max_execution_time": settings.query_timeout_s,
        "max_memory_usage": settings.query_max_memory_bytes,
        "max_result_rows": settings.query_max_rows,
        "max_result_bytes": settings.query_max_result_bytes,
        "do_not_merge_across_partitions_select_final": 1,  # copies of a span share its start time, so its day
        "prefer_column_name_to_alias": 1,  # in WHERE a name means the column, whatever SELECT calls its answers
        **overrides,
        "max_query_size": 2**20,  # a filter of two hundred comparisons with the text of messages
        # Last: nothing can be set after it. It forbids changes, file() and url(), but neither INTO OUTFILE nor a second
        # statement that reads: what keeps those out is that no text from outside is ever SQL.
        "readonly": 1,
    }


@contextmanager
def refusing(settings: Settings) -> Generator[None]:
    """Turn what the driver raises at start into `StartupRefused` with what a person can do."""
    url = settings.clickhouse_url
    where = _without_password(url) if url else str(settings.data_dir / "store")
    try:
        yield
    except NewerSchema as error:
        raise StartupRefused(
            f"the store at {where} was written by a newer Limelight (schema {error.found}, this release knows "
            f"{error.known}); it was not touched: install that release again, or restore a backup of before the upgrade"
        ) from error
    except DestructiveMigration as error:
        raise StartupRefused(
            f"{error}: make a backup (`limelight backup`, or the server's own), then run `limelight migrate "
            "--allow-destructive`"
        ) from error
    except (ClickHouseError, OSError) as error:
        raise StartupRefused(f"cannot open the store at {where}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = explained(error)
    # chDB says no more than this when another process holds the directory.
    return "another process holds it" if "Error initializing EmbeddedServer" in text else text


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url
