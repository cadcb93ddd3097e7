"""The control database's schema: Alembic revisions, applied in order, forward only.

The check at every start costs one query; Alembic itself is imported only where there is something to apply.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event

from limelight_migrations.destructive import DestructiveMigration

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

HEAD = "0003"
"""The revision this version of the code works with."""


_WRITE_LOCK = 0x6C696D656C6967  # any number that nobody else in the database uses: "limelig"


class NewerDatabase(Exception):
    """The database was written by a newer version of Limelight; it was not touched."""


def upgrade(url: str, *, allow_destructive: bool = False) -> list[str]:
    """Bring the control database at `url` to `HEAD`; returns the steps applied.

    All steps run in one transaction, and one process at a time takes them: a second one waits and finds nothing to do.
    Raises `NewerDatabase` where the stored revision is unknown here, `DestructiveMigration` where a step takes data
    away and that is not allowed, and SQLAlchemy's own errors where the database cannot be opened.
    """
    with _opened(url) as engine:
        current = _checked(engine)
        if current == HEAD:
            return []
        destructive = [] if allow_destructive or current is None else _destructive(current)
        if destructive:
            raise DestructiveMigration(destructive)
        with engine.execution_options(limelight_writes=True).begin() as connection:
            hold_write_lock(connection)
            return _apply(connection, _scripts(), _current(connection))


def pending_sql(url: str) -> str:
    """The SQL that `upgrade` would run at `url`, "" where nothing is due; changes and makes nothing. Raises as that."""
    if _is_absent(url):
        return render(sa.make_url(url).get_backend_name(), None)
    with _opened(url) as engine:
        current = _checked(engine)
        return "" if current == HEAD else render(engine.dialect.name, current)


@contextmanager
def _opened(url: str) -> Generator[sa.Engine]:
    engine = sa.create_engine(with_driver(url))
    if engine.dialect.name == "sqlite":
        _begin_explicitly(engine)
    try:
        yield engine
    finally:
        engine.dispose()


def _checked(engine: sa.Engine) -> str | None:
    """The stored revision; `NewerDatabase` where it is none of ours."""
    with engine.begin() as connection:
        current = _current(connection)
    if current != HEAD:
        _refuse_newer(_scripts(), current)
    return current


def _destructive(current: str) -> list[str]:
    """Steps due that say of themselves (`destructive = "why"`) that they take data away."""
    due = _scripts().iterate_revisions(HEAD, current)
    return [f"control {step.revision}" for step in due if getattr(step.module, "destructive", "")]


def with_driver(url: str) -> str:
    """The URL with the driver that Limelight comes with (extra `postgres`), where it names none."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgres", "postgresql") else url


def hold_write_lock(connection: sa.Connection) -> None:
    """Make this transaction the only one that writes, to its end, also across processes: what BEGIN IMMEDIATE does in
    SQLite, an advisory lock does in PostgreSQL. Writes are few and short, and need no other thought about each other.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITE_LOCK})


def render(dialect: str, current: str | None) -> str:
    """The SQL from revision `current` (None: an empty database) to `HEAD`, without a connection.

    `dialect`: "sqlite" or "postgresql".
    """
    import io

    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    buffer, scripts = io.StringIO(), _scripts()

    def at(revision: str | None) -> MigrationContext:
        opts = {"as_sql": True, "output_buffer": buffer, "starting_rev": revision}
        return MigrationContext.configure(dialect_name=dialect, opts=opts)

    if current is None:  # Alembic's own table, as it makes it itself where it has a connection
        key = sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc")
        Operations(at(None)).create_table(
            "alembic_version", sa.Column("version_num", sa.String(32), nullable=False), key
        )
    for revision in reversed(list(scripts.iterate_revisions(HEAD, current or "base"))):
        context = at(current)
        with Operations.context(context):
            revision.module.upgrade()
        context.stamp(scripts, revision.revision)
        current = revision.revision
    return buffer.getvalue().strip()


def _scripts() -> ScriptDirectory:
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(__file__).parent))


def _is_absent(url: str) -> bool:
    """Whether `url` names an SQLite file that does not exist (a dry run must not create it)."""
    parsed = sa.make_url(url)
    return parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists()


def _begin_explicitly(engine: sa.Engine) -> None:
    """Make SQLite's DDL transactional: the driver's own transaction handling commits before it."""

    def connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("limelight_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)


def _current(connection: sa.Connection) -> str | None:
    """The stored revision; None for an empty database."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def _refuse_newer(scripts: ScriptDirectory, current: str | None) -> None:
    known = {revision.revision for revision in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise NewerDatabase(
            f"the control database has revision {current}, written by a newer Limelight (this one knows up to {HEAD}); "
            "install that version again or restore a backup"
        )


def _steps(scripts: ScriptDirectory, current: str | None) -> list[str]:
    revisions = reversed(list(scripts.iterate_revisions(HEAD, current or "base")))
    return [f"control {revision.revision}: {revision.doc}" for revision in revisions]


def _apply(connection: sa.Connection, scripts: ScriptDirectory, current: str | None) -> list[str]:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    context = MigrationContext.configure(connection)
    with Operations.context(context):
        for revision in reversed(list(scripts.iterate_revisions(HEAD, current or "base"))):
            revision.module.upgrade()
            context.stamp(scripts, revision.revision)
    return _steps(scripts, current)
