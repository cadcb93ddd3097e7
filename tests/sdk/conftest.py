"""Fixtures of the SDK's tests: an HTTP server that plays model and collector, and a watch on what `quiet` swallows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace

from limelight import guard
from limelight.testing import Recorded, recording
from sdk.server import Peer


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "swallows: the test makes our own code fail on purpose")


@pytest.fixture(autouse=True)
def nothing_swallowed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which the guard swallowed an internal error or a span stayed current, unless marked `swallows`."""
    before, entered = guard.SWALLOWED.copy(), otel_context.get_current()
    yield
    leaked = trace.get_current_span() is not trace.get_current_span(entered)
    otel_context.attach(entered)
    if request.node.get_closest_marker("swallows") is None:
        assert not leaked, "a span is still current"
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
