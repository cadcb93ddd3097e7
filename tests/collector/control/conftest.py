"""A real control database on a file, and a clock that moves when told to."""

import pytest

from limelight_collector.control import Control


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
def database_path(tmp_path):
    return tmp_path / "control.db"


@pytest.fixture
def control(database_path, clock):
    opened = Control(f"sqlite:///{database_path}", now_s=clock)
    yield opened
    opened.close()
