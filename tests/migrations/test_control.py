"""The control database's migrations: up from empty, idempotent, refusing what is newer, equal to the declaration."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from limelight_collector.control import Control
from limelight_collector.control.models import METADATA
from limelight_collector.errors import StartupRefused
from limelight_migrations import control as migrations
from limelight_migrations.control import HEAD, NewerDatabase, render, upgrade


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'control.db'}"


def path_of(url):
    return Path(url.removeprefix("sqlite:///"))


def test_from_empty_then_nothing_to_do(url):
    steps = upgrade(url)
    assert len(steps) >= 1
    assert steps[-1].startswith(f"control {HEAD}: ")
    assert upgrade(url) == []
    assert upgrade(url, dry_run=True) == []


def test_dry_run_names_the_steps_and_touches_nothing(url):
    assert upgrade(url, dry_run=True) == upgrade(url, dry_run=True)
    assert not path_of(url).exists()
    path_of(url).touch()
    assert len(upgrade(url, dry_run=True)) >= 1
    assert path_of(url).read_bytes() == b""


def test_head_is_the_newest_revision():
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_current_head() == HEAD


def test_migrated_schema_is_the_declared_one(url):
    upgrade(url)
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA)
    engine.dispose()
    assert differences == []


def test_newer_database_is_refused_untouched(url):
    upgrade(url)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    before = path_of(url).read_bytes()
    with pytest.raises(NewerDatabase, match="9999"):
        upgrade(url)
    with pytest.raises(StartupRefused, match="newer Limelight"):
        Control(url)
    assert path_of(url).read_bytes() == before


def test_failed_step_leaves_nothing_behind(url):
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE audit_log (id INTEGER)"))  # the last table of the first step is taken
    engine.dispose()
    with pytest.raises(sa.exc.OperationalError, match="already exists"):
        upgrade(url)
    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == ["audit_log"]
    engine.dispose()


def test_postgresql_ddl_is_portable():
    ddl = render("postgresql")
    assert ddl.count("CREATE TABLE") == len(METADATA.tables)
    assert "DATETIME" not in ddl
    assert "TRIGGER" not in ddl
    assert "CREATE RULE audit_log_no_UPDATE" in ddl


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("nonsense", "not a database URL"),
        ("sqlite:////nowhere/at/all/control.db", "cannot open the control database"),
        ("mysql+nodriver://localhost/x", "LIMELIGHT_CONTROL_URL"),
    ],
)
def test_bad_url_is_one_clear_line(bad, message):
    with pytest.raises(StartupRefused, match=message):
        Control(bad)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "control.db"
    path.write_bytes(b"this is a text file, not a database, and long enough to be read as one" * 20)
    with pytest.raises(StartupRefused, match="cannot open the control database"):
        Control(f"sqlite:///{path}")
