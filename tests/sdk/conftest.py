"""Fixtures of the SDK's tests: an HTTP server that plays model and collector, and a watch on what `quiet` swallows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from limelight import guard
from limelight.testing import Recorded, recording
from sdk.server import Peer


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "swallows: the test makes our own code fail on purpose")


@pytest.fixture(autouse=True)
def nothing_swallowed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which the guard swallowed an internal error, unless it is marked `swallows`."""
    before = guard.SWALLOWED.copy()
    yield
    if request.node.get_closest_marker("swallows") is None:
        assert guard.SWALLOWED - before == {}, "the guard swallowed an internal error; see the captured log"


@pytest.fixture
def peer() -> Iterator[Peer]:
    """A local HTTP server that answers as scripted."""
    with Peer() as running:
        yield running


@pytest.fixture
def spans() -> Iterator[Recorded]:
    """The SDK running in memory."""
    with recording(service_name="test") as recorded:
        yield recorded
