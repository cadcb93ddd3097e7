"""The control database's migrations, on SQLite and PostgreSQL: up from empty, idempotent, refusing what is newer, equal
to the declaration, taken by one process at a time.
"""

import subprocess
import sys
from contextlib import contextmanager
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
from limelight_migrations.control import HEAD, NewerDatabase, render, upgrade, with_driver


@pytest.fixture
def url(control_url):
    return control_url


@contextmanager
def connected(url):
    engine = sa.create_engine(with_driver(url))
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def tables(url):
    with connected(url) as connection:
        return sorted(sa.inspect(connection).get_table_names())


def test_from_empty_then_nothing_to_do(url):
    steps = upgrade(url)
    assert len(steps) >= 1
    assert steps[-1].startswith(f"control {HEAD}: ")
    assert upgrade(url) == []
    assert upgrade(url, dry_run=True) == []


def test_dry_run_names_the_steps_and_touches_nothing(url):
    assert upgrade(url, dry_run=True) == upgrade(url, dry_run=True) != []
    assert tables(url) == []


def test_dry_run_makes_no_file(tmp_path):
    path = tmp_path / "control.db"
    assert len(upgrade(f"sqlite:///{path}", dry_run=True)) >= 1
    assert not path.exists()
    path.touch()
    assert len(upgrade(f"sqlite:///{path}", dry_run=True)) >= 1
    assert path.read_bytes() == b""


def test_head_is_the_newest_revision():
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_current_head() == HEAD


def test_migrated_schema_is_the_declared_one(url):
    upgrade(url)
    with connected(url) as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA)
    assert differences == []


def test_newer_database_is_refused_untouched(url):
    upgrade(url)
    with connected(url) as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(sa.text("DROP TABLE price_overrides"))
    with pytest.raises(NewerDatabase, match="9999"):
        upgrade(url)
    with pytest.raises(StartupRefused, match="newer Limelight"):
        Control(url)
    assert "price_overrides" not in tables(url)


def test_failed_step_leaves_nothing_behind(url):
    with connected(url) as connection:
        connection.execute(sa.text("CREATE TABLE audit_log (id INTEGER)"))  # the last table of the first step is taken
    with pytest.raises(sa.exc.DBAPIError, match="already exists"):
        upgrade(url)
    assert tables(url) == ["audit_log"]


def test_two_processes_at_once_take_each_step_once(url):
    code = "import sys; from limelight_migrations.control import upgrade; print(len(upgrade(sys.argv[1])))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    taken = sorted(int(process.communicate(timeout=60)[0]) for process in processes)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert taken[:2] == [0, 0]
    assert taken[2] >= 1


def test_postgresql_ddl_is_portable():
    ddl = render("postgresql")
    assert ddl.count("CREATE TABLE") == len(METADATA.tables)
    assert "DATETIME" not in ddl
    assert "CREATE TRIGGER audit_log_append_only" in ddl


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("nonsense", "not a database URL"),
        ("sqlite:////nowhere/at/all/control.db", "cannot open the control database"),
        ("mysql+nodriver://localhost/x", "LIMELIGHT_CONTROL_URL"),
        ("postgresql://user:hunter2@127.0.0.1:9/x", "cannot open the control database"),
    ],
)
def test_bad_url_is_one_clear_line(bad, message):
    with pytest.raises(StartupRefused, match=message) as caught:
        Control(bad)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "control.db"
    path.write_bytes(b"this is a text file, not a database, and long enough to be read as one" * 20)
    with pytest.raises(StartupRefused, match="cannot open the control database"):
        Control(f"sqlite:///{path}")
