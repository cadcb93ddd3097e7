"""Which traces are kept: a share by trace id, and every one in which something failed; holding them is bounded."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags

import limelight
from limelight.sampling import ByTraceId, Held
from limelight.testing import Recorded, RecordedSpan, recording

REASONS = ("limelight.sample_rate", "limelight.sampled_for")


def _reasons(span: RecordedSpan) -> tuple[Any, ...]:
    return tuple(span.attributes.get(name) for name in REASONS)


def _names(recorded: Recorded) -> list[str]:
    return [span.name for span in recorded.spans()]


@pytest.mark.parametrize("rate", [0.0, 0.001, 0.25, 1 / 3, 0.5, 0.999])
def test_the_decision_is_opentelemetrys_own(rate: float) -> None:
    ours, theirs = ByTraceId(rate), TraceIdRatioBased(rate)
    for number in range(1000):
        trace_id = number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)
        sampled = theirs.should_sample(None, trace_id, "x").decision is Decision.RECORD_AND_SAMPLE
        result = ours.should_sample(None, trace_id, "x", attributes={"a": 1})
        assert (result.decision is Decision.RECORD_AND_SAMPLE) is sampled
        assert result.attributes == ({"a": 1, "limelight.sample_rate": rate} if sampled else {"a": 1})


def test_at_full_rate_nothing_is_marked(spans: Recorded) -> None:
    with limelight.span("work"):
        pass
    assert _reasons(spans.only()) == (None, None)


def test_a_kept_trace_tells_its_rate() -> None:
    with recording(sample_rate=0.999999) as recorded:  # the ids of a recording are small
        with limelight.span("parent"), limelight.span("child"):
            pass
        assert [_reasons(span) for span in recorded.spans()] == [(0.999999, None)] * 2


def test_an_error_keeps_its_whole_trace_with_content() -> None:
    with recording(sample_rate=0) as recorded:
        with limelight.span("fine") as fine:
            fine.set(input="x")
        with limelight.span("root") as root:
            root.set(input="question")
            with limelight.span("before", kind="tool") as before:
                before.set(output="value")
            with contextlib.suppress(ValueError), limelight.span("failed"):
                raise ValueError("no")
            with limelight.span("after"):
                pass
        with limelight.span("fine again"):
            pass
        found = recorded.spans()
        assert [span.name for span in found] == ["execute_tool before", "failed", "after", "root"]
        assert {_reasons(span) for span in found} == {(None, "error")}
        assert found[0].attributes["gen_ai.tool.call.result"] == "value"
        assert found[-1].attributes["limelight.input"] == "question"


def test_an_error_is_not_held_back_by_a_root_that_never_ends() -> None:
    with recording(sample_rate=0) as recorded:
        loop = limelight.span("main loop")
        loop.__enter__()
        with contextlib.suppress(ValueError), limelight.span("failed"):
            raise ValueError
        assert _names(recorded) == ["failed"]
        loop.__exit__(None, None, None)
        assert _names(recorded) == ["failed", "main loop"]


def test_late_spans_follow_what_became_of_their_trace() -> None:
    with recording(sample_rate=0) as recorded:
        dropped = limelight.span("dropped root")
        with dropped:
            late, failing = limelight.span("late"), limelight.span("late but failed")
            late.__enter__()
            late._call.leave()
            failing.__enter__()
            failing._call.leave()
        late.__exit__(None, None, None)
        assert _names(recorded) == []
        failing.__exit__(ValueError, ValueError("x"), None)
        assert _names(recorded) == ["late but failed"]

        with contextlib.suppress(ValueError), limelight.span("kept root") as kept:
            late = limelight.span("late")
            late.__enter__()
            late._call.leave()
            raise ValueError
        late.__exit__(None, None, None)
        with trace.use_span(kept._call.span), limelight.span("started after the root ended"):
            pass
        assert _names(recorded)[1:] == ["kept root", "late", "started after the root ended"]


def test_a_remote_parent_makes_a_local_root_and_cannot_overrule_the_id() -> None:
    remote = NonRecordingSpan(SpanContext(7, 9, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
    with recording(sample_rate=0) as recorded:
        with trace.use_span(remote):
            with limelight.span("first request"):
                pass
            with contextlib.suppress(ValueError), limelight.span("second request"), limelight.span("inner"):
                raise ValueError
        found = recorded.spans()
        assert [span.name for span in found] == ["inner", "second request"]
        assert {(span.trace_id, span.parent_id) for span in found if span.name != "inner"} == {
            (f"{7:032x}", f"{9:016x}")
        }


@pytest.mark.parametrize(("rate", "flag"), [(0, 0), (0.5, 1), (1, 1)])
def test_the_flag_sent_onwards_is_the_decision_by_id(rate: float, flag: int) -> None:
    with recording(sample_rate=rate), limelight.span("work"):  # trace id 1: kept by any rate but 0
        assert trace.get_current_span().get_span_context().trace_flags & TraceFlags.SAMPLED == flag


def test_a_joined_provider_samples_by_itself() -> None:
    provider = TracerProvider(sampler=TraceIdRatioBased(0), shutdown_on_exit=False)
    with recording(tracer_provider=provider, sample_rate=0.5) as recorded:
        with contextlib.suppress(ValueError), limelight.span("failed"):
            raise ValueError
        assert recorded.spans() == []


def _span(span_id: int, parent_id: int | None = None, *, failed: bool = False, trace_id: int = 1) -> ReadableSpan:
    return ReadableSpan(
        name=f"{span_id}",
        context=SpanContext(trace_id, span_id, is_remote=False),
        parent=None if parent_id is None else SpanContext(trace_id, parent_id, is_remote=False),
        status=Status(StatusCode.ERROR) if failed else Status(),
    )


def _held(**bounds: int) -> tuple[Held, list[str]]:
    sent: list[str] = []
    return Held(lambda span, size: sent.append(span.name), **bounds), sent


def test_the_oldest_trace_loses_what_it_holds_when_there_is_too_much() -> None:
    for bounds in ({"max_spans": 10}, {"max_bytes": 100}):
        held, sent = _held(**bounds)
        for root in (100, 200):
            held.started(_span(root, trace_id=root))
            for child in range(root + 1, root + 7):
                held.started(_span(child, root, trace_id=root))
                held.ended(_span(child, root, trace_id=root), 10)
        assert (held._spans, held._bytes) == (6, 60)
        held.ended(_span(100, trace_id=100, failed=True), 10)
        held.ended(_span(200, trace_id=200, failed=True), 10)
        assert sent == ["100", "201", "202", "203", "204", "205", "206", "200"]
        assert (held._spans, held._bytes, held._holding, held._open) == (0, 0, {}, {})


def test_one_endless_trace_is_bounded_too() -> None:
    held, sent = _held(max_spans=10)
    held.started(_span(1))
    for child in range(2, 1000):
        held.started(_span(child, 1))
        held.ended(_span(child, 1), 1)
        assert held._spans <= 10
    assert (sent, len(held._open)) == ([], 1)


def test_spans_that_are_never_ended_are_bounded() -> None:
    held, sent = _held()
    for number in range(1, 50_000):
        held.started(_span(number))
    assert len(held._open) <= 20_000
    held.ended(_span(1, failed=True), 1)
    assert sent == ["1"]


def test_traces_in_threads_do_not_mix() -> None:
    def work(number: int) -> None:
        for round_number in range(20):
            with contextlib.suppress(ValueError), limelight.span(f"root {number}"), limelight.span(f"child {number}"):
                if number == 3:
                    raise ValueError(round_number)

    with recording(sample_rate=0) as recorded:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(_names(recorded)) == ["child 3"] * 20 + ["root 3"] * 20
