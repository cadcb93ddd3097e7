"""Store: where spans, flags, scores, metric points and log records are kept and asked for.

This page is the contract; `clickhouse.py` keeps it.

* `insert` is idempotent: the same batch again, whole or regrouped, changes nothing a reader sees. A span is identified
  by (project, start time, trace, span), a metric point by (project, metric, series, time), a log record by (project,
  time, hash of its content); of several copies the one received last counts.
* `insert` returns only when the batch would survive a crash of this process and of the machine. All that a
  batch carries is stored by one call; one that raised may have stored a part, so the caller sends all of it again.
* `Rejected` from `insert`: this batch can never be stored (the caller splits it to find the culprit). `Unavailable`:
  try again later. `QueryLimit` from `query`: the question is too big. Anything else is a bug.
* `query` takes SQL written by this program alone; values from outside arrive as bound parameters, `{name:Type}`. Times
  come back as integer nanoseconds since 1970, ids as bytes, money as Decimal.
* `execute` takes SQL written by this program alone, too: upkeep of what is stored (rollups, retention, deletions).
* `frozen` makes a copy as of one instant, by hard links; reads go on, changes wait. Embedded stores only.
* Reads run beside each other and beside the writer, on connections that cannot write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from limelight_collector.batch import Batch
    from limelight_collector.settings import Settings
    from limelight_collector.store.frozen import Frozen
    from limelight_collector.store.slow import SlowQueries


@dataclass(frozen=True, slots=True)
class Rows:
    """An answer: column names and rows of values."""

    names: list[str] = field(default_factory=list[str])
    rows: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])

    def dicts(self) -> list[dict[str, Any]]:
        """The rows as objects."""
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]


class Store(Protocol):
    """The contract above, as types."""

    slow: SlowQueries
    """The slowest questions that `query` and `stream` were asked."""

    def insert(self, batch: Batch) -> None:
        """Store a batch durably and idempotently; `Rejected` or `Unavailable`."""
        ...

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None, *, max_rows: int | None = None) -> Rows:
        """Answer a question; more than `max_rows` rows are a `QueryLimit`, an engine that is away `Unavailable`."""
        ...

    def stream(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[list[tuple[Any, ...]]]:
        """Answer a question of any size in blocks of rows, on a connection of its own that ends with the iterator."""
        ...

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run one statement that changes what is stored (rollups, deletions); one at a time; raises as `query`."""
        ...

    def frozen(self, name: str) -> AbstractContextManager[Frozen]:
        """Hold changes back while the body runs, everything stored frozen in `shadow/<name>`; `Unavailable`."""
        ...

    def ping(self) -> None:
        """Return if the engine answers; `Unavailable` if not."""
        ...

    def close(self) -> None:
        """Close every connection; safe to call twice."""
        ...


def open_store(settings: Settings, *, migrate: bool = True) -> Store:
    """Open the store the settings name and bring its schema up to date; `StartupRefused` says what is in the way."""
    from limelight_collector.store.clickhouse import open_clickhouse

    return open_clickhouse(settings, migrate=migrate)


def migrate_store(settings: Settings, *, allow_destructive: bool = False) -> list[str]:
    """Bring the schema up to date and return the steps taken; `StartupRefused` where one would take data away."""
    from limelight_collector.store.clickhouse import migrate_clickhouse

    return migrate_clickhouse(settings, allow_destructive=allow_destructive)


def preview_store(settings: Settings) -> list[str]:
    """The statements that `migrate_store` would run, exactly; changes and creates nothing."""
    from limelight_collector.store.clickhouse import preview_clickhouse

    return preview_clickhouse(settings)
