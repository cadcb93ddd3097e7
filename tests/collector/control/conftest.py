"""A real control database, SQLite and PostgreSQL in turn, and a clock that moves when told to."""

import pytest
import sqlalchemy as sa

from limelight_collector.control import Control
from limelight_migrations.control import with_driver


class Clock:
    """Unix seconds; call it to read it."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def control(control_url, clock):
    opened = Control(control_url, now_s=clock)
    yield opened
    opened.close()


@pytest.fixture
def other_process(control, control_url):
    """Runs one statement as somebody else would who knows the database's address."""

    def execute(statement):
        engine = sa.create_engine(with_driver(control_url))
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(statement)
        finally:
            engine.dispose()

    return execute
