"""`observe`, `span`, `context` and `score`, as a program uses them."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import threading

import pytest
from opentelemetry import trace

import limelight
from limelight.testing import START_NS, Recorded, recording


def test_kinds_become_operations(spans: Recorded) -> None:
    @limelight.observe(kind="tool")
    def weather(city: str, days: int = 1) -> dict:
        return {"city": city, "days": days}

    @limelight.observe(kind="retriever")
    def search(query: str, top: int) -> list:
        return [{"id": "d1", "score": 0.5, "content": "text"}]

    @limelight.observe(kind="agent", name="helper")
    def agent() -> str:
        weather("Oslo")
        search("q", top=3)
        with limelight.span("check", kind="guardrail") as guardrail:
            guardrail.set(input={"a": 1}, output="fine", **{"my.key": 2})
        return "done"

    assert agent() == "done"
    tool, retrieval, guardrail, top = spans.spans()
    assert [span.name for span in (tool, retrieval, guardrail, top)] == [
        "execute_tool weather",
        "retrieval search",
        "check",
        "invoke_agent helper",
    ]
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"city": "Oslo"}
    assert json.loads(tool.attributes["gen_ai.tool.call.result"]) == {"city": "Oslo", "days": 1}
    assert retrieval.attributes["gen_ai.retrieval.query.text"] == "q"
    assert json.loads(retrieval.attributes["gen_ai.retrieval.documents"])[0]["id"] == "d1"
    assert guardrail.attributes["limelight.kind"] == "guardrail"
    assert guardrail.attributes["my.key"] == 2
    assert json.loads(guardrail.attributes["limelight.input"]) == {"a": 1}
    assert top.attributes["gen_ai.agent.name"] == "helper"
    assert top.attributes["limelight.output"] == "done"
    assert {span.parent_id for span in (tool, retrieval, guardrail)} == {top.span_id}
    assert top.start_ns >= START_NS


async def test_tasks_and_coroutines_nest(spans: Recorded) -> None:
    @limelight.observe
    async def child(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @limelight.observe(kind="workflow")
    async def parent() -> list[int]:
        return await asyncio.gather(child(1), child(2))

    assert await parent() == [1, 2]
    *children, top = spans.spans()
    assert {span.parent_id for span in children} == {top.span_id}
    assert top.name == "invoke_workflow parent"


def test_a_generators_span_is_current_only_inside_its_body(spans: Recorded) -> None:
    @limelight.observe
    def numbers():
        for number in range(3):
            with limelight.span("step"):
                got = yield number
                assert got is None or got == "sent"
        return "end"

    def consume():
        before = trace.get_current_span()
        result = None
        generator = numbers()
        for _ in range(2):
            next(generator)
            assert trace.get_current_span() is before
        generator.send("sent")
        try:
            next(generator)
        except StopIteration as stop:
            result = stop.value
        return result

    assert consume() == "end"
    *steps, top = spans.spans()
    assert {span.parent_id for span in steps} == {top.span_id}
    assert json.loads(top.attributes["limelight.output"]) == [0, 1, 2]


async def test_async_generators_close_break_and_raise(spans: Recorded) -> None:
    @limelight.observe(name="words")
    async def words(fail: bool):
        yield "a"
        yield "b"
        if fail:
            raise LookupError("gone")

    with pytest.raises(LookupError):
        [word async for word in words(True)]
    broken = words(False)
    assert await broken.__anext__() == "a"
    await broken.aclose()
    failed, closed = spans.named("words")
    assert (failed.status, failed.attributes["error.type"]) == ("error", "LookupError")
    assert (closed.status, closed.attributes["limelight.output"]) == ("unset", "a")


def test_an_async_generator_closed_in_another_context_leaks_nothing(spans: Recorded, caplog) -> None:
    @limelight.observe
    async def words():
        with limelight.span("inner"):
            yield "a"

    generator = words()
    for step in (generator.__anext__, generator.aclose):
        with pytest.raises(StopIteration):  # how a step without a loop returns
            contextvars.copy_context().run(step().send, None)
    assert not trace.get_current_span().get_span_context().is_valid
    assert "detach" not in caplog.text
    assert len(spans.spans()) == 2


def test_errors_pass_and_are_recorded(spans: Recorded) -> None:
    @limelight.observe(kind="tool")
    def broken() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError) as caught:
        broken()
    assert [frame.name for frame in caught.traceback][-1] == "broken"
    with pytest.raises(KeyboardInterrupt), limelight.span("block"):
        raise KeyboardInterrupt
    assert [span.attributes["error.type"] for span in spans.spans()] == ["KeyError", "KeyboardInterrupt"]


def test_capture_false_keeps_values_out(spans: Recorded) -> None:
    @limelight.observe(kind="tool", capture=False)
    def secret(word: str) -> str:
        return word

    secret("hush")
    assert "hush" not in str(spans.only())


def test_context_reaches_every_span_below_and_ends_with_its_block(spans: Recorded) -> None:
    with limelight.context(session_id="s1", user_id="u1", tags=["a"], metadata={"team": "x"}):
        with (
            limelight.context(
                tags=["b", "a"], metadata={"tier": 1}, prompt_name="p", prompt_version=3, environment="e"
            ),
            limelight.span("inner", kind="tool"),
        ):
            pass
        with limelight.span("outer"):
            pass
    with limelight.span("after"):
        pass
    inner, outer, after = (span.attributes for span in spans.spans())
    assert inner["limelight.tags"] == ["a", "b"]
    assert json.loads(inner["limelight.metadata"]) == {"team": "x", "tier": 1}
    assert (inner["gen_ai.prompt.name"], inner["gen_ai.prompt.version"]) == ("p", "3")
    assert inner["deployment.environment.name"] == "e"
    assert inner["gen_ai.conversation.id"] == inner["session.id"] == "s1"
    assert outer["limelight.tags"] == ["a"]
    assert "gen_ai.conversation.id" not in outer
    assert after == {}


def test_scores_of_the_current_span_and_by_id(spans: Recorded) -> None:
    with limelight.span("judged") as judged:
        limelight.score("helpful", 0.5, explanation="so so")
        limelight.score("tone", "polite")
    limelight.score("thumbs", True, trace_id=judged.trace_id)
    first, second, third = spans.scores()
    assert first == {
        "gen_ai.evaluation.name": "helpful",
        "gen_ai.evaluation.score.value": 0.5,
        "gen_ai.evaluation.explanation": "so so",
        "event": "gen_ai.evaluation.result",
        "trace_id": judged.trace_id,
        "span_id": judged.span_id,
    }
    assert second["gen_ai.evaluation.score.label"] == "polite"
    assert (third["gen_ai.evaluation.score.value"], third["span_id"]) == (1.0, "")


def test_a_score_of_nothing_is_one_warning(spans: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    for bad in (None, "xyz", "0" * 32):
        limelight.score("x", 1, trace_id=bad)
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    assert spans.scores() == []


def test_sampling_is_by_trace_id_and_whole_traces() -> None:
    with recording(sample_rate=0) as recorded:
        with limelight.span("parent") as parent, limelight.span("child") as child:
            parent.set(input="x")
            limelight.score("x", 1)
        assert child.trace_id == parent.trace_id != ""
        assert recorded.spans() == []


def test_joining_a_provider_gives_spans_to_both() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    theirs = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    with recording(tracer_provider=provider) as recorded:
        with provider.get_tracer("app").start_as_current_span("request"), limelight.span("work"):
            pass
        work, request = recorded.spans()
        assert work.parent_id == request.span_id
        assert [span.name for span in theirs.get_finished_spans()] == ["work", "request"]
    with provider.get_tracer("app").start_as_current_span("later"):
        pass
    assert theirs.get_finished_spans()[-1].name == "later"


def test_open_spans_end_at_shutdown_and_nothing_is_recorded_after(spans: Recorded) -> None:
    block = limelight.span("open")
    block.__enter__()
    assert limelight.shutdown(5)
    block.__exit__(None, None, None)
    with limelight.span("late"):
        pass
    limelight.init(disabled=True)
    assert [span.name for span in spans.spans()] == ["open"]


def test_threads_share_one_worker(spans: Recorded) -> None:
    def work() -> None:
        for _ in range(20):
            with limelight.span("t"):
                pass

    before = set(threading.enumerate())
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(spans.spans()) == 160
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["limelight-export"]


def test_what_has_no_name_is_observed_by_its_type(spans: Recorded) -> None:
    assert limelight.observe(functools.partial(divmod, 7))(2) == (3, 1)
    assert spans.only().name == "partial"
