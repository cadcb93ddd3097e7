"""The stream battery: each kind of stream of each library, left in every way a program can leave it.

The chunks are those of a run without the SDK, and there is exactly one span, ended.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from types import ModuleType
from typing import Any

import pytest

from limelight import call
from limelight.testing import Recorded, recording
from sdk.journeys import Desks, Stream, libraries

KINDS = [(library, stream) for library in libraries() for stream in library.STREAMS]
SYNC = [kind for kind in KINDS if not kind[1].is_async]
ASYNC = [kind for kind in KINDS if kind[1].is_async]


def _id(kind: tuple[ModuleType, Stream]) -> str:
    return f"{kind[0].LIBRARY}-{kind[1].name}".replace(" ", "-")


def _all(stream: Stream, opened: Any) -> list[Any]:
    return [stream.plain(chunk) for chunk in opened]


def _break(stream: Stream, opened: Any) -> list[Any]:
    for chunk in opened:
        return [stream.plain(chunk)]
    return []


def _close(stream: Stream, opened: Any) -> list[Any]:
    first = stream.plain(next(iter(opened)))
    if stream.close is not None:
        getattr(opened, stream.close)()
    return [first]


def _never(_stream: Stream, _opened: Any) -> list[Any]:
    return []


def _other_thread(stream: Stream, opened: Any) -> list[Any]:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: [stream.plain(chunk) for chunk in opened]).result()


def _half_in_another_thread(stream: Stream, opened: Any) -> list[Any]:
    steps = iter(opened)
    received = [stream.plain(next(steps))]
    thread = threading.Thread(target=lambda: received.extend(stream.plain(chunk) for chunk in steps))
    thread.start()
    thread.join()
    return received


def _raise_inside(stream: Stream, opened: Any) -> list[Any]:
    received = []
    try:
        for chunk in opened:
            received.append(stream.plain(chunk))
            raise LookupError("the user's own")  # noqa: TRY301
    except LookupError:
        return received
    return received


@pytest.fixture(scope="module")
def desks() -> Iterator[Desks]:
    gc.collect()
    gc.freeze()  # only what these tests leave behind is looked at when they collect
    with Desks() as made:
        yield made
    gc.unfreeze()


_expected: dict[tuple[str, str, str], list[Any]] = {}


def _compared(desks: Desks, kind: tuple[ModuleType, Stream], way: Any, run: Any) -> None:
    library, stream = kind
    key = (library.LIBRARY, stream.name, way.__name__)
    desk = desks.of(library)
    if key not in _expected:
        _expected[key] = _without_us(desk, stream, way, run)
    with recording(service_name="test") as recorded:
        received = run(desk, stream, way)
        assert received == _expected[key]
        _settle(desk)
        _check(recorded, stream, received)


def _without_us(desk: Any, stream: Stream, way: Any, run: Any) -> list[Any]:
    try:
        return run(desk, stream, way)
    except Exception as error:
        if os.environ.get("LIMELIGHT_OLDEST") == "1":
            pytest.skip(f"this version cannot do it, with or without us: {type(error).__name__}")
        raise


def _sync_run(desk: Any, stream: Stream, way: Any) -> list[Any]:
    opened = stream.open(desk)
    received = way(stream, opened)
    del opened
    gc.collect()
    return received


def _settle(desk: Any) -> None:
    """Let go what a cancelled task or a closed connection still holds: that takes turns of the loop, and time."""
    loop = getattr(desk, "loop", None)
    for _ in range(40):
        if call._open.keys() == {id(abandoned) for abandoned in call._abandoned}:
            return
        if loop is None:
            time.sleep(0.05)
        else:
            loop.run_until_complete(asyncio.sleep(0.05))
        gc.collect()


def _check(recorded: Recorded, stream: Stream, received: list[Any]) -> None:
    ended = recorded.spans()
    expected = 1 if received or stream.has_span_unopened else 0
    assert len(ended) == expected, [span.name for span in ended]
    assert call._open == {}, "a span was left open"


@pytest.mark.parametrize(
    "way",
    [_all, _break, _close, _never, _other_thread, _half_in_another_thread, _raise_inside],
    ids=lambda way: way.__name__,
)
@pytest.mark.parametrize("kind", SYNC, ids=_id)
def test_a_stream(kind: tuple[ModuleType, Stream], way: Any, desks: Desks) -> None:
    _compared(desks, kind, way, _sync_run)


async def _async_all(stream: Stream, opened: Any) -> list[Any]:
    return [stream.plain(chunk) async for chunk in opened]


async def _async_break(stream: Stream, opened: Any) -> list[Any]:
    async for chunk in opened:
        return [stream.plain(chunk)]
    return []


async def _async_close(stream: Stream, opened: Any) -> list[Any]:
    received = await _async_break(stream, opened)
    if stream.close is not None:
        await getattr(opened, stream.close)()
    return received


async def _async_never(_stream: Stream, _opened: Any) -> list[Any]:
    return []


async def _other_task(stream: Stream, opened: Any) -> list[Any]:
    return await asyncio.create_task(_async_all(stream, opened))


async def _half_in_another_task(stream: Stream, opened: Any) -> list[Any]:
    steps: AsyncIterator[Any] = aiter(opened)
    first = stream.plain(await anext(steps))

    async def rest() -> list[Any]:
        return [stream.plain(chunk) async for chunk in steps]

    return [first, *await asyncio.create_task(rest())]


async def _cancelled(stream: Stream, opened: Any) -> list[Any]:
    """The task is cancelled while it holds the stream half-way."""
    received: list[Any] = []
    started = asyncio.Event()

    async def read() -> None:
        async for chunk in opened:
            received.append(stream.plain(chunk))
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return received


def _async_run(desk: Any, stream: Stream, way: Any) -> list[Any]:
    async def run() -> list[Any]:
        opened = stream.open(desk)
        if hasattr(opened, "__await__"):
            opened = await opened
        if hasattr(opened, "aclose") and way in {_async_break, _cancelled, _async_never}:
            # what Python itself would do later, when the loop ends: close what was left half-way
            async with aclosing(opened):
                return await way(stream, opened)
        return await way(stream, opened)

    received = desk.loop.run_until_complete(run())
    for _ in range(5):  # a generator left inside another is closed by the loop, a turn later each
        gc.collect()
        desk.loop.run_until_complete(asyncio.sleep(0))
    return received


@pytest.mark.parametrize(
    "way",
    [_async_all, _async_break, _async_close, _async_never, _other_task, _half_in_another_task, _cancelled],
    ids=lambda way: way.__name__,
)
@pytest.mark.parametrize("kind", ASYNC, ids=_id)
def test_an_asynchronous_stream(kind: tuple[ModuleType, Stream], way: Any, desks: Desks) -> None:
    _compared(desks, kind, way, _async_run)
