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
from limelight_migrations.control import HEAD, NewerDatabase, pending_sql, render, upgrade, with_driver
from limelight_migrations.destructive import DestructiveMigration, is_destructive


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
    assert pending_sql(url) == ""


def test_the_preview_is_what_would_run_and_touches_nothing(url):
    sql = pending_sql(url)
    assert pending_sql(url) == sql
    assert tables(url) == []
    with connected(url) as connection:
        for statement in sql.split(";\n\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    assert upgrade(url) == []  # whoever ran it by hand is where the command would have brought them
    with connected(url) as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), METADATA)
    assert differences == []


def test_the_preview_makes_no_file(tmp_path):
    path = tmp_path / "control.db"
    assert pending_sql(f"sqlite:///{path}") != ""
    assert not path.exists()
    path.touch()
    assert pending_sql(f"sqlite:///{path}") != ""
    assert path.read_bytes() == b""


def revisions():
    found = ScriptDirectory(str(Path(migrations.__file__).parent)).walk_revisions("base", HEAD)
    return list(reversed(list(found)))


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_a_step_that_takes_data_away_says_so(dialect, monkeypatch):
    before = None
    for revision in revisions():
        monkeypatch.setattr(migrations, "HEAD", revision.revision)
        statements = render(dialect, before).split(";\n\n")
        taking = [one for one in statements if is_destructive(one) and "UPDATE alembic_version" not in one]
        assert not taking or getattr(revision.module, "destructive", "")
        before = revision.revision


def test_a_step_that_takes_data_away_waits_for_leave(url, monkeypatch):
    monkeypatch.setattr(migrations, "HEAD", "0001")
    upgrade(url)
    monkeypatch.undo()
    load = migrations._scripts

    def marked():
        scripts = load()
        scripts.get_revision(HEAD).module.destructive = "for this test"
        return scripts

    monkeypatch.setattr(migrations, "_scripts", marked)
    with pytest.raises(DestructiveMigration, match=HEAD):
        upgrade(url)
    with pytest.raises(StartupRefused, match="limelight migrate --allow-destructive"):
        Control(url)
    assert "leases" not in tables(url)
    assert upgrade(url, allow_destructive=True)[-1].startswith(f"control {HEAD}")


ROWS = (
    "INSERT INTO projects VALUES ('p', 'ü', 0, 1.5)",
    "INSERT INTO api_keys VALUES ('abcdefghij', 'p', 'n', '[\"read\"]', 'h', 2.5, NULL, NULL, NULL)",
    "INSERT INTO audit_log (time_s, project_id, actor, action, object) VALUES (1, 'p', 'a', 'b', 'c')",
)
"""Rows of a database of the first revision."""


@pytest.mark.parametrize("start", [revision.revision for revision in revisions()[:-1]])
def test_from_every_earlier_version_what_is_stored_survives(url, start, monkeypatch):
    monkeypatch.setattr(migrations, "HEAD", start)
    upgrade(url)
    with connected(url) as connection:
        for statement in ROWS:
            connection.exec_driver_sql(statement)
    monkeypatch.undo()
    assert len(upgrade(url)) == len(revisions()) - [one.revision for one in revisions()].index(start) - 1
    control = Control(url)
    (key,) = control.list_keys()
    assert (key.id, key.scopes, key.created_at) == ("abcdefghij", {"read"}, "1970-01-01T00:00:02.500Z")
    assert [(project.id, project.name) for project in control.projects()] == [("p", "ü")]
    assert [entry.action for entry in control.audit("p")] == ["b"]
    control.close()


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
    ddl = render("postgresql", None)
    assert ddl.count("CREATE TABLE") == len(METADATA.tables) + 1  # and Alembic's own
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
