"""One call that hands several requests to an engine in the process: a span for the call, and below it one a request.

The span of the batch is no model call: it has no model, no tokens and costs nothing. It says how long the call took
as a whole, and it is the one that fails where the call does.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from limelight import semconv
from limelight.call import Call, Recorder


def start_batch(recorder: Recorder, model: str | None, size: int | None) -> Call:
    """Start the span of a batch of `size` requests, None where that shows later."""
    attributes = {semconv.LIMELIGHT_KIND: "chain", semconv.LIMELIGHT_BATCH_SIZE: size}
    return Call.start(recorder, f"batch {model}" if model else "batch", attributes)


@contextmanager
def inside(batch: Call) -> Generator[None]:
    """Make the batch the parent of the requests that are started here."""
    batch.enter()
    try:
        yield
    finally:
        batch.leave()
