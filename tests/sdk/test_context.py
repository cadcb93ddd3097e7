"""Where the current span, session, user and tags go along: tasks, threads, pools, processes, HTTP; and where not."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import multiprocessing
import pickle
import sys
import threading
import traceback
import types
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage, trace
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext

import limelight
from limelight import call as calls
from limelight import propagate
from limelight.call import model_call
from limelight.testing import Recorded, recording
from sdk.in_process import work_in_process
from sdk.server import Peer, otlp_reply, span_attributes


def _step() -> None:
    with limelight.span("step"):
        pass


def _in_task() -> None:
    async def main() -> None:
        async def step() -> None:
            _step()

        await asyncio.create_task(step())

    asyncio.run(main())


def _in_to_thread() -> None:
    asyncio.run(asyncio.to_thread(_step))


def _in_executor() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().run_in_executor(None, _step)

    asyncio.run(main())


def _in_thread() -> None:
    thread = threading.Thread(target=_step)
    thread.start()
    thread.join()


def _in_subclass() -> None:
    class Mine(threading.Thread):
        def run(self) -> None:
            _step()

    thread = Mine()
    thread.start()
    thread.join()


def _in_timer() -> None:
    timer = threading.Timer(0, _step)
    timer.start()
    timer.join()


def _in_pool() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_step).result()


def _in_map() -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: _step(), [1]))


WAYS = [_step, _in_task, _in_to_thread, _in_executor, _in_thread, _in_subclass, _in_timer, _in_pool, _in_map]


@pytest.mark.parametrize("way", WAYS)
def test_span_and_identity_go_along(way: Callable[[], None], spans: Recorded) -> None:
    with limelight.context(session_id="s", tags=["t"]), limelight.span("outer") as outer:
        way()
    step, _ = spans.spans()
    assert (step.parent_id, step.trace_id) == (outer.span_id, outer.trace_id)
    assert (step.attributes["session.id"], step.attributes["limelight.tags"]) == ("s", ["t"])
    way()
    assert spans.spans()[-1].parent_id == ""


@pytest.mark.parametrize("way", [_in_thread, _in_pool])
def test_threads_can_be_left_out(way: Callable[[], None]) -> None:
    with recording(providers=[]) as recorded:
        with limelight.context(session_id="s"), limelight.span("outer"):
            way()
        (step,) = recorded.named("step")
    assert (step.parent_id, "session.id" in step.attributes) == ("", False)


def test_a_pool_thread_does_not_stay_where_it_was_started(spans: Recorded) -> None:
    with ThreadPoolExecutor(1) as pool:
        with limelight.span("first"):
            pool.submit(_step).result()
        pool.submit(_step).result()
        with limelight.span("second"):
            pool.submit(_step).result()
        assert pool.submit(trace.get_current_span).result() is trace.INVALID_SPAN
    first, second = spans.named("first")[0], spans.named("second")[0]
    assert [step.parent_id for step in spans.named("step")] == [first.span_id, "", second.span_id]


def test_only_our_context_is_carried(spans: Recorded) -> None:
    theirs: contextvars.ContextVar[int] = contextvars.ContextVar("theirs", default=0)
    theirs.set(1)
    seen: list[int] = []
    with limelight.span("outer"):
        thread = threading.Thread(target=lambda: seen.append(theirs.get()))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(theirs.get).result())
    assert seen == [0, 0]


def test_threads_keep_their_names_flags_and_attributes(spans: Recorded) -> None:
    seen: list[Any] = []
    with limelight.span("outer"):
        thread = threading.Thread(
            target=lambda: seen.append(dict(vars(threading.current_thread()))), name="n", daemon=True
        )
        before = set(vars(thread))
        thread.start()
        thread.join()
    assert (thread.name, thread.daemon) == ("n", True)
    assert set(seen[0]) == before
    assert set(vars(thread)) <= before


def test_exceptions_are_the_same(spans: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise LookupError("x")

    def frames_of(run: Callable[[], Any]) -> list[str]:
        caught: list[Any] = []
        monkeypatch.setattr(threading, "excepthook", lambda hooked: caught.append(hooked.exc_value))
        try:
            run()
        except LookupError as error:
            caught.append(error)
        return [frame.name for frame in traceback.extract_tb(caught[0].__traceback__) if frame.name != "frames_of"]

    def in_thread() -> None:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    def in_pool() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(fail).result()

    for run in (in_thread, in_pool):
        with limelight.span("outer"):
            patched = frames_of(run)
        limelight.uninstrument()
        assert patched == frames_of(run)


def test_a_thread_that_cannot_start_keeps_nothing(spans: Recorded) -> None:
    thread = threading.Thread(target=_step)
    thread.start()
    thread.join()
    with limelight.span("outer"), pytest.raises(RuntimeError, match="once"):
        thread.start()
    assert not any("limelight" in name for name in vars(thread))


def test_a_thread_keeps_no_span_alive(spans: Recorded) -> None:
    go = threading.Event()
    with limelight.span("outer"):
        alive = weakref.ref(trace.get_current_span())
        thread = threading.Thread(target=go.wait, args=(20,))
        thread.start()
        pool = ThreadPoolExecutor(1)
        pool.submit(_step).result()
    spans.spans()
    gc.collect()
    assert alive() is None
    go.set()
    thread.join()
    pool.shutdown()


def test_uninstrument_gives_back_the_identical_functions() -> None:
    work = concurrent.futures.thread._WorkItem
    names = [(threading.Thread, "start"), (threading.Thread, "_bootstrap_inner"), (work, "__init__"), (work, "run")]
    before = [getattr(owner, name) for owner, name in names]
    with recording():
        assert [getattr(owner, name) for owner, name in names] != before
    assert [getattr(owner, name) for owner, name in names] == before


def test_the_export_thread_hangs_below_nobodys_span(spans: Recorded) -> None:
    with limelight.span("outer"):
        alive = weakref.ref(trace.get_current_span())
    spans.spans()
    gc.collect()
    assert alive() is None


# -- blocks ------------------------------------------------------------------------------------------------------------
def test_blocks_left_in_another_context_leak_nothing(spans: Recorded) -> None:
    block = limelight.context(session_id="s")
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)
    _step()
    assert spans.only().attributes == {}


def test_a_span_started_with_a_context_of_its_own_takes_its_values(spans: Recorded) -> None:
    with limelight.context(session_id="theirs"):
        there = otel_context.get_current()
    with limelight.context(session_id="here"):
        recorder = calls.installed()
        assert recorder is not None
        recorder.tracer.start_span("x", context=there).end()
    assert spans.only().attributes["session.id"] == "theirs"


# -- processes ---------------------------------------------------------------------------------------------------------
async def async_work() -> str:
    await asyncio.sleep(0)
    with limelight.span("async step") as step:
        return step.trace_id


def test_carry_restores_what_it_found(spans: Recorded) -> None:
    with limelight.context(user_id="u", metadata={"a": {"b": 1}}), limelight.span("outer") as outer:
        carried = limelight.carry(_step)
        there = pickle.loads(pickle.dumps(carried))
    assert carried.__name__ == "_step"
    for one in (carried, there):
        one()
        assert trace.get_current_span() is trace.INVALID_SPAN
    for step in spans.named("step"):
        assert (step.parent_id, step.attributes["user.id"]) == (outer.span_id, "u")
        assert step.attributes["limelight.metadata"] == '{"a":{"b":1}}'


async def test_carry_of_a_coroutine_function(spans: Recorded) -> None:
    with limelight.span("outer") as outer:
        carried = limelight.carry(async_work)
    assert await carried() == outer.trace_id


def test_carry_passes_arguments_results_and_errors_even_without_init() -> None:
    assert limelight.carry(divmod)(7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        limelight.carry(divmod)(1, 0)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_carry_into_a_process_pool(method: str, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    # a spawned child runs the main module again, and tests of pages leave one of those in its place
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    peer.says(otlp_reply())
    limelight.init(endpoint=peer.url, providers=[])
    try:
        with limelight.context(session_id="s", tags=["t"]), limelight.span("outer") as outer:
            context: Any = multiprocessing.get_context(method)
            with context.Pool(1) as pool:
                seen = pool.apply(limelight.carry(work_in_process), (peer.url, "there"))
        assert limelight.flush(10)
    finally:
        limelight.shutdown(10)
        limelight.uninstrument()
    sent = span_attributes(peer)
    assert seen == outer.trace_id
    assert sent["there"]["session.id"] == "s"
    assert sent["there"]["limelight.tags"] == ["t"]
    assert sent["there"]["parent"] == outer.span_id


# -- HTTP --------------------------------------------------------------------------------------------------------------
def test_baggage_goes_out_only_where_asked_for() -> None:
    for wanted in (False, True):
        with (
            recording(baggage=wanted, propagate="all", providers=[]),
            limelight.context(session_id="s ä", user_id="u", tags=["a,b", "c"], metadata={"m": 1}, prompt_version=3),
            limelight.span("outer"),
        ):
            headers = propagate.outgoing_headers("host")
            assert "traceparent" in headers
            assert ("baggage" in headers) is wanted
    assert sorted(headers["baggage"].split(",")) == [
        "gen_ai.prompt.version=3",
        "limelight.tags=%5B%22a%2Cb%22%2C+%22c%22%5D",
        "session.id=s+%C3%A4",
        "user.id=u",
    ]


def test_an_applications_own_baggage_is_not_sent() -> None:
    with recording(baggage=True, propagate="all", providers=[]), limelight.span("outer"):
        token = otel_context.attach(baggage.set_baggage("theirs", "secret"))
        assert "baggage" not in propagate.outgoing_headers("host")
        otel_context.detach(token)


@pytest.mark.parametrize("wanted", [False, True])
def test_received_baggage_applies_to_the_spans_below(wanted: bool) -> None:
    remote = trace.set_span_in_context(NonRecordingSpan(SpanContext(7, 9, is_remote=True)))
    for name, value in {"session.id": "s", "user.id": "u", "limelight.tags": '["x"]', "other": "o"}.items():
        remote = baggage.set_baggage(name, value, remote)
    with recording(baggage=wanted, propagate="all", providers=[]) as recorded:
        token = otel_context.attach(remote)
        with limelight.context(user_id="own", tags=["y"]), limelight.span("server"):
            sent = propagate.outgoing_headers("host").get("baggage", "")
        otel_context.detach(token)
        attributes = recorded.only().attributes
    if wanted:
        assert attributes == {"session.id": "s", "user.id": "own", "limelight.tags": ["x", "y"]}
        assert "session.id=s" in sent
    else:
        assert attributes == {"user.id": "own", "limelight.tags": ["y"]}
        assert sent == ""


@pytest.mark.parametrize("bad", ["nonsense", "[", "7", "[1]", "[" * 5000, ""])
def test_baggage_that_is_no_list_of_tags_is_left_out(bad: str) -> None:
    with recording(baggage=True, providers=[]) as recorded:
        token = otel_context.attach(baggage.set_baggage("limelight.tags", bad))
        _step()
        otel_context.detach(token)
        assert not recorded.only().attributes.get("limelight.tags")


# -- other vendors' spans ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("theirs", "is_same_call"),
    [
        ({"gen_ai.operation.name": "chat"}, True),
        ({"openinference.span.kind": "LLM"}, True),
        ({"llm.request.type": "chat"}, True),
        ({"gen_ai.operation.name": "invoke_agent"}, False),
        ({"openinference.span.kind": "CHAIN"}, False),
        ({}, False),
    ],
)
def test_a_call_inside_another_vendors_span_of_it_says_so(theirs: dict[str, str], is_same_call: bool) -> None:
    other = TracerProvider(shutdown_on_exit=False).get_tracer("com.example.tracing")
    with recording(providers=[]) as recorded:
        recorder = calls.installed()
        assert recorder is not None
        with other.start_as_current_span("their call", attributes=theirs):
            model_call(recorder, "chat", "m", {}).stop()
        nested = recorded.only().attributes.get("limelight.nested_in")
    assert nested == ("com.example.tracing" if is_same_call else None)


def test_our_own_outer_spans_are_no_duplicates(spans: Recorded) -> None:
    recorder = calls.installed()
    assert recorder is not None
    outer = model_call(recorder, "chat", "m", {})
    outer.enter()
    model_call(recorder, "chat", "m", {}).stop()
    outer.leave()
    outer.stop()
    assert [span.attributes.get("limelight.nested_in") for span in spans.spans()] == [None, None]
