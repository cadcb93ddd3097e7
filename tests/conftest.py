"""What every test shares: how hypothesis behaves on a busy machine, and a PostgreSQL where one is asked for."""

import contextlib
import os
import uuid

import pytest

with contextlib.suppress(ImportError):  # the bare install may go without
    from hypothesis import HealthCheck, settings

    # Machines are shared: how long an example takes says nothing about the code.
    settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
    settings.load_profile("shared")


@pytest.fixture(scope="session")
def postgresql_server():
    """A private PostgreSQL server; skipped where none is installed, which is a failure where backends are required."""
    import postgresql_server as server

    if server.program("initdb") is None:
        reason = "PostgreSQL is not installed (make postgresql)"
        (pytest.fail if os.environ.get("LIMELIGHT_REQUIRE_BACKENDS") or os.environ.get("CI") else pytest.skip)(reason)
    with server.running() as url:
        yield url


@pytest.fixture
def postgresql_url(postgresql_server):
    """The URL of an empty PostgreSQL database."""
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(postgresql_server.format("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgresql_server.format(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def control_url(request, tmp_path):
    """The URL of an empty control database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    return request.getfixturevalue("postgresql_url")
