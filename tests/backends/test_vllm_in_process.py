"""vLLM's engines in this process, with a tiny model: our counts and times are the engine's own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

import limelight
from backends.vllm.needs import QUIET, functions, require
from limelight import guard
from limelight.testing import Recorded, RecordedSpan, recording

pytestmark = [pytest.mark.backend, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

PROMPTS = ["def main():", "import os\nimport sys\nimport re", "class A:"]
OPTIONS: dict[str, Any] = {"dtype": "float32", "max_model_len": 512, "enforce_eager": True, "max_num_seqs": 8}


@pytest.fixture(scope="session")
def model() -> str:
    require("vllm")
    os.environ.update(QUIET)
    from backends.vllm.tiny_model import kept

    return str(kept())


@pytest.fixture(scope="session")
def llm(model: str) -> Any:
    """An engine with statistics on."""
    from vllm import LLM

    return LLM(model, disable_log_stats=False, served_model_name="tiny", **OPTIONS)


def _parameters(**options: Any) -> Any:
    from vllm import SamplingParams

    return SamplingParams(**options)


def _asked(prompts: Any, **options: Any) -> dict[str, Any]:
    return {"prompts": prompts, "sampling_params": _parameters(**options), "use_tqdm": False}


def _assert_counts(span: RecordedSpan, output: Any) -> None:
    """The counts of one request are what the engine's output says."""
    seen = span.attributes
    assert seen["gen_ai.request.id"] == output.request_id
    assert seen["gen_ai.usage.input_tokens"] == len(output.prompt_token_ids)
    assert seen["gen_ai.usage.output_tokens"] == sum(len(one.token_ids) for one in output.outputs)
    assert seen["gen_ai.response.finish_reasons"] == [one.finish_reason for one in output.outputs]
    messages = json.loads(seen["gen_ai.output.messages"])
    assert [message["parts"][0]["content"] for message in messages] == [one.text for one in output.outputs]


def _assert_times(span: RecordedSpan, stats: Any) -> None:
    seen = span.attributes
    assert seen["gen_ai.latency.time_in_queue"] == stats.scheduled_ts - stats.queued_ts
    assert seen["gen_ai.latency.time_in_model_prefill"] == stats.first_token_ts - stats.scheduled_ts
    assert seen["gen_ai.latency.time_in_model_decode"] == stats.last_token_ts - stats.first_token_ts
    assert seen["gen_ai.latency.time_in_model_inference"] == stats.last_token_ts - stats.scheduled_ts
    assert seen["gen_ai.latency.time_to_first_token"] == stats.first_token_latency


def test_one_prompt_is_one_span(llm: Any, spans: Recorded) -> None:
    asked = _asked(PROMPTS[0], max_tokens=6, temperature=0.5, top_p=0.9, top_k=5, seed=7, stop=["\n\n\n"])
    (output,) = llm.generate(**asked)
    span = spans.only()
    assert (span.name, span.kind, span.status) == ("text_completion tiny", "internal", "unset")
    _assert_counts(span, output)
    _assert_times(span, output.metrics)
    expected = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.max_tokens": 6,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 5,
        "gen_ai.request.seed": 7,
        "gen_ai.request.stop_sequences": ["\n\n\n"],
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.response.finish_reasons": ["length"],
    }
    assert {name: span.attributes.get(name) for name in expected} == expected
    assert json.loads(span.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == PROMPTS[0]
    assert "gen_ai.response.time_to_first_chunk" not in span.attributes


def test_a_batch_is_one_span_a_request_with_the_engines_times(llm: Any, spans: Recorded) -> None:
    parameters = [_parameters(max_tokens=number, temperature=0) for number in (2, 9, 5)]
    outputs = llm.generate(PROMPTS, parameters, use_tqdm=False)
    *requests, batch = sorted(spans.spans(), key=lambda span: (span.parent_id == "", span.span_id))
    assert (batch.name, batch.attributes) == ("batch tiny", {"limelight.kind": "chain", "limelight.batch.size": 3})
    for span, output, prompt, asked in zip(requests, outputs, PROMPTS, (2, 9, 5), strict=True):
        assert (span.trace_id, span.parent_id) == (batch.trace_id, batch.span_id)
        _assert_counts(span, output)
        _assert_times(span, output.metrics)
        assert span.attributes["gen_ai.request.max_tokens"] == asked == span.attributes["gen_ai.usage.output_tokens"]
        assert json.loads(span.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"] == prompt
    first, second, third = (span.end_ns for span in requests)
    assert batch.start_ns < first < third < second < batch.end_ns  # each ends when the engine hands it out


def test_requests_lie_within_their_batch(llm: Any) -> None:
    """On real clocks: the engine's arrival is wall time, its other times are monotonic."""
    outputs: list[Any] = []
    sent = _sent_on_real_clocks(lambda: outputs.extend(llm.generate(**_asked(PROMPTS, max_tokens=4))))
    (batch,) = [span for span in sent if span.parent_id == ""]
    requests = sorted((span for span in sent if span is not batch), key=lambda span: span.start_ns)
    for span, output in zip(requests, outputs, strict=True):
        assert span.start_ns == int(output.metrics.arrival_time * 1e9)
        assert batch.start_ns < span.start_ns < span.end_ns < batch.end_ns


def _sent_on_real_clocks(run: Any) -> list[RecordedSpan]:
    from limelight.config import resolve
    from limelight.testing import _Memory

    recorded = Recorded()
    limelight.init.__self__.start(resolve({}, {}), sender=lambda: _Memory(recorded))
    try:
        run()
        return recorded.spans()
    finally:
        limelight.uninstrument()
        limelight.shutdown(10)


def test_without_statistics_times_are_unknown(llm: Any, spans: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `LLM` does by default (`disable_log_stats`)."""
    monkeypatch.setattr(llm.llm_engine, "log_stats", False)
    monkeypatch.setattr(llm.llm_engine.output_processor, "log_stats", False)
    monkeypatch.setattr(llm.llm_engine, "logger_manager", None)
    outputs = llm.generate(PROMPTS[:2], [_parameters(max_tokens=2), _parameters(max_tokens=9)], use_tqdm=False)
    assert [output.metrics for output in outputs] == [None, None]
    first, second, batch = sorted(spans.spans(), key=lambda span: (span.parent_id == "", span.span_id))
    for span, output in zip((first, second), outputs, strict=True):
        _assert_counts(span, output)
        assert not [name for name in span.attributes if name.startswith("gen_ai.latency.")]
        assert span.start_ns == batch.start_ns
    assert first.end_ns < second.end_ns < batch.end_ns  # each ends when the engine hands it out


def test_two_choices_have_no_times_of_one(llm: Any, spans: Recorded) -> None:
    (output,) = llm.generate(**_asked(PROMPTS[0], n=2, max_tokens=3, temperature=1, seed=1))
    span = spans.only()
    _assert_counts(span, output)
    assert span.attributes["gen_ai.usage.output_tokens"] == 6
    assert span.attributes["gen_ai.request.choice.count"] == 2
    assert not [name for name in span.attributes if ".latency." in name or ".cache_" in name]


def test_a_cached_prefix_is_counted(llm: Any, spans: Recorded) -> None:
    long = "x = 1\n" * 60
    for _ in range(2):
        (output,) = llm.generate(**_asked(long, max_tokens=2))
    first, second = (span.attributes for span in spans.spans())
    assert first["gen_ai.usage.cache_read.input_tokens"] == 0
    assert second["gen_ai.usage.cache_read.input_tokens"] == output.num_cached_tokens > 0
    assert first["gen_ai.usage.input_tokens"] == second["gen_ai.usage.input_tokens"]


def test_chats(llm: Any, spans: Recorded) -> None:
    chat = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    (one,) = llm.chat(chat, _parameters(max_tokens=3), use_tqdm=False)
    outputs = llm.chat([chat, [{"role": "user", "content": "again"}]], _parameters(max_tokens=3), use_tqdm=False)
    single, *others = [span for span in spans.spans() if span.name == "chat tiny"]
    for span, output in zip([single, *sorted(others, key=lambda s: s.span_id)], [one, *outputs], strict=True):
        _assert_counts(span, output)
    said = json.loads(single.attributes["gen_ai.input.messages"])
    assert [(message["role"], message["parts"][0]["content"]) for message in said] == [
        ("system", "be brief"),
        ("user", "hi"),
    ]


def test_token_ids_are_a_prompt(llm: Any, spans: Recorded) -> None:
    (output,) = llm.generate(**_asked({"prompt_token_ids": [1, 5, 9]}, max_tokens=2))
    span = spans.only()
    _assert_counts(span, output)
    assert span.attributes["gen_ai.usage.input_tokens"] == 3


def test_requests_that_wait_in_the_queue(llm: Any, spans: Recorded) -> None:
    llm.enqueue(PROMPTS[:2], _parameters(max_tokens=2), use_tqdm=False)
    outputs = llm.wait_for_completion(use_tqdm=False)
    *requests, batch = sorted(spans.spans(), key=lambda span: (span.parent_id == "", span.span_id))
    for span, output in zip(requests, outputs, strict=True):
        _assert_counts(span, output)
        assert span.parent_id == batch.span_id


def test_beam_search_is_one_span_without_counts(llm: Any, spans: Recorded) -> None:
    from vllm.sampling_params import BeamSearchParams

    llm.beam_search([PROMPTS[0]], BeamSearchParams(beam_width=2, max_tokens=3))
    span = spans.only()
    assert span.name == "text_completion tiny"
    assert "gen_ai.usage.output_tokens" not in span.attributes


def test_errors_of_one_and_of_a_batch(llm: Any, spans: Recorded) -> None:
    from vllm.exceptions import VLLMValidationError

    for prompts in ("x " * 2000, ["x", "x " * 2000]):
        with pytest.raises(VLLMValidationError, match="maximum context length"):
            llm.generate(**_asked(prompts, max_tokens=2))
        llm.llm_engine.abort_request([str(number) for number in range(1000)])  # what the batch had queued before
    one, batch = spans.spans()
    assert (one.name, batch.name) == ("text_completion tiny", "batch tiny")
    for span in (one, batch):
        assert (span.status, span.attributes["error.type"]) == ("error", "vllm.exceptions.VLLMValidationError")
        assert span.events[0][1]["exception.message"].startswith("This model's maximum context length")


def test_no_content_where_none_is_wanted(llm: Any) -> None:
    with recording(capture="none") as spans:
        llm.generate(**_asked(PROMPTS, max_tokens=2))
        llm.chat([{"role": "user", "content": "hi"}], _parameters(max_tokens=2), use_tqdm=False)
        assert not [name for span in spans.spans() for name in span.attributes if name.endswith("messages")]
        assert sum(span.attributes.get("gen_ai.usage.output_tokens", 0) for span in spans.spans()) == 8


def test_counts_equal_the_engines_counters(llm: Any, spans: Recorded) -> None:
    before = _counters(llm)
    llm.generate(**_asked(PROMPTS * 3, max_tokens=5))
    llm.generate(**_asked(PROMPTS[0], max_tokens=5))
    after = _counters(llm)
    seen = [span.attributes for span in spans.named("text_completion tiny")]
    assert len(seen) == 10
    for counter, attribute in (("prompt", "input"), ("generation", "output")):
        told = sum(attributes[f"gen_ai.usage.{attribute}_tokens"] for attributes in seen)
        assert told == after[counter] - before[counter]


def _counters(llm: Any) -> dict[str, int]:
    values = {metric.name: getattr(metric, "value", None) for metric in llm.get_metrics()}
    return {name: values[f"vllm:{name}_tokens"] for name in ("prompt", "generation")}


def test_uninstrument_restores_the_identical_methods(llm: Any) -> None:
    owners = [(type(llm), name) for name in ("generate", "chat", "beam_search", "wait_for_completion")]
    owners += [(type(llm.llm_engine), "step")]
    before = [vars(owner).get(name) for owner, name in owners]
    with recording():
        assert [vars(owner).get(name) for owner, name in owners] != before
    assert [vars(owner).get(name) for owner, name in owners] == before


class Hostile:
    """Whatever is asked of it fails."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __iter__(self) -> Any:
        raise RuntimeError("iter")

    def __len__(self) -> int:
        raise RuntimeError("len")


def test_hostile_arguments_fail_as_they_would_without_us(llm: Any) -> None:
    def outcomes() -> list[Any]:
        found = []
        for prompts, parameters in ((Hostile(), None), (PROMPTS[0], Hostile()), ([Hostile()], _parameters())):
            with pytest.raises(BaseException) as caught:  # noqa: PT011  the engine decides
                llm.generate(prompts, parameters, use_tqdm=False)
            found.append(type(caught.value))
        return found

    plain = outcomes()
    with recording():
        assert outcomes() == plain
    guard.SWALLOWED.clear()


def _break_each(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break every function of ours in turn; what `run` gives stays the same."""
    from limelight import call
    from limelight.providers import batches, vllm, vllm_outputs

    expected = run()
    for module in (batches, vllm, vllm_outputs):
        for owner, name in functions(module):
            with recording(), monkeypatch.context() as patched:
                patched.setattr(owner, name, _broken)
                assert run() == expected, name
                call.forget_all()
    assert guard.SWALLOWED
    guard.SWALLOWED.clear()


def _broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("injected")


def _calls(llm: Any) -> Any:
    parameters = _parameters(max_tokens=3, temperature=0)
    outputs = llm.generate(PROMPTS, parameters, use_tqdm=False)
    outputs += llm.chat([{"role": "user", "content": "hi"}], parameters, use_tqdm=False)
    return [(output.outputs[0].text, len(output.prompt_token_ids), output.finished) for output in outputs]


def test_a_fault_of_ours_never_reaches_the_user(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _break_each(lambda: _calls(llm), monkeypatch)


# The engines below are made beside `llm` and take down its process-wide state as they go: `llm` comes first.
def test_embeddings(model: str, spans: Recorded) -> None:
    from vllm import LLM

    llm = LLM(model, runner="pooling", convert="embed", served_model_name="tiny-embed", **OPTIONS)
    outputs = llm.embed(PROMPTS[:2], use_tqdm=False)
    (one,) = llm.embed(PROMPTS[2], use_tqdm=False)
    found = spans.named("embeddings tiny-embed")
    assert len(found) == 3
    for span, output in zip(sorted(found, key=lambda s: s.span_id), [*outputs, one], strict=True):
        seen = span.attributes
        assert seen["gen_ai.operation.name"] == "embeddings"
        assert seen["gen_ai.usage.input_tokens"] == len(output.prompt_token_ids)
        assert seen["gen_ai.embeddings.dimension.count"] == len(output.outputs.embedding) == 128
        assert "gen_ai.usage.output_tokens" not in seen
    assert {span.attributes["limelight.input"] for span in found} == set(PROMPTS)


# -- AsyncLLM ----------------------------------------------------------------------------------------------------------
class Engine:
    """`AsyncLLM` on an event loop of its own."""

    def __init__(self, model: str) -> None:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self.loop = asyncio.new_event_loop()
        arguments = AsyncEngineArgs(model=model, served_model_name="tiny", **OPTIONS)
        self.llm = self.run(self._start(AsyncLLM, arguments))

    async def _start(self, kind: Any, arguments: Any) -> Any:
        return kind.from_engine_args(arguments)

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def close(self) -> None:
        self.run(self._close())
        self.loop.close()

    async def _close(self) -> None:
        self.llm.shutdown()


@pytest.fixture(scope="session")
def engine(model: str) -> Iterator[Engine]:
    with contextlib.closing(Engine(model)) as running:
        yield running


async def _all(stream: Any) -> list[Any]:
    return [output async for output in stream]


@pytest.mark.parametrize("kind", ["CUMULATIVE", "DELTA", "FINAL_ONLY"])
@pytest.mark.parametrize("choices", [1, 2])
def test_a_generator_of_every_kind(kind: str, choices: int, engine: Engine, spans: Recorded) -> None:
    from vllm.sampling_params import RequestOutputKind

    parameters = _parameters(max_tokens=6, n=choices, seed=1, output_kind=RequestOutputKind[kind])
    stream = engine.llm.generate(PROMPTS[0], parameters, f"req-{kind}-{choices}")
    assert inspect.isasyncgen(stream)
    outputs = engine.run(_all(stream))
    span = spans.only()
    seen = span.attributes
    assert (span.name, span.kind) == ("text_completion tiny", "internal")
    assert seen["gen_ai.request.id"] == f"req-{kind}-{choices}"
    assert seen["gen_ai.usage.input_tokens"] == len(outputs[-1].prompt_token_ids)
    assert seen["gen_ai.usage.output_tokens"] == 6 * choices
    assert seen["gen_ai.response.finish_reasons"] == ["length"] * choices
    assert json.loads(seen["gen_ai.input.messages"])[0]["parts"][0]["content"] == PROMPTS[0]
    texts = [message["parts"][0]["content"] for message in json.loads(seen["gen_ai.output.messages"])]
    assert texts == _texts(outputs, choices, is_delta=kind == "DELTA")
    assert (
        ("gen_ai.response.time_to_first_chunk" in seen) == (kind != "FINAL_ONLY") == ("gen_ai.request.stream" in seen)
    )
    if choices == 1:
        _assert_times(span, outputs[-1].metrics)


def _texts(outputs: list[Any], choices: int, *, is_delta: bool) -> list[str]:
    texts = [""] * choices
    for output in outputs:
        for one in output.outputs:
            texts[one.index] = texts[one.index] + one.text if is_delta else one.text
    return texts


async def _some(stream: Any, number: int) -> list[Any]:
    taken = []
    async for output in stream:
        taken.append(output)
        if len(taken) == number:
            break
    await stream.aclose()
    return taken


def test_a_generator_left_early_has_a_first_chunk_and_no_invented_counts(engine: Engine, spans: Recorded) -> None:
    taken = engine.run(_some(engine.llm.generate(PROMPTS[0], _parameters(max_tokens=200), "left"), 2))
    span = spans.only()
    assert span.status == "unset"
    assert span.attributes["gen_ai.usage.input_tokens"] == len(taken[-1].prompt_token_ids)
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert "gen_ai.usage.output_tokens" not in span.attributes
    assert engine.llm.output_processor.get_num_unfinished_requests() == 0  # the engine has heard of it


def test_a_cancelled_generator_aborts_and_ends_its_span(engine: Engine, spans: Recorded) -> None:
    async def cancelled() -> None:
        started = asyncio.Event()

        async def read() -> None:
            async for _ in engine.llm.generate(PROMPTS[0], _parameters(max_tokens=400), "cancelled"):
                started.set()

        task = asyncio.create_task(read())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    engine.run(cancelled())
    assert spans.only().attributes["error.type"] == "asyncio.exceptions.CancelledError"
    assert engine.llm.output_processor.get_num_unfinished_requests() == 0


def test_a_dropped_generator_ends_its_span(engine: Engine, spans: Recorded) -> None:
    async def dropped() -> None:
        stream = engine.llm.generate(PROMPTS[0], _parameters(max_tokens=400), "dropped")
        await anext(stream)
        del stream
        gc.collect()
        while engine.llm.output_processor.get_num_unfinished_requests():
            await asyncio.sleep(0.01)

    engine.run(dropped())
    assert spans.only().attributes["gen_ai.request.id"] == "dropped"


def test_an_aborted_request_ends_as_the_engine_says(engine: Engine, spans: Recorded) -> None:
    async def aborted() -> list[Any]:
        outputs = []
        async for output in engine.llm.generate(PROMPTS[0], _parameters(max_tokens=400), "aborted"):
            outputs.append(output)
            if len(outputs) == 1:
                await engine.llm.abort("aborted")
        return outputs

    outputs = engine.run(aborted())
    seen = spans.only().attributes
    assert seen["gen_ai.response.finish_reasons"] == ["abort"]
    assert seen["gen_ai.usage.output_tokens"] == len(outputs[-1].outputs[0].token_ids)


def test_a_refused_request(engine: Engine, spans: Recorded) -> None:
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="maximum context length"):
        engine.run(_all(engine.llm.generate("x " * 2000, _parameters(max_tokens=2), "refused")))
    span = spans.only()
    assert (span.status, span.attributes["error.type"]) == ("error", "vllm.exceptions.VLLMValidationError")


def test_many_at_once_keep_their_own_counts(engine: Engine, spans: Recorded) -> None:
    async def many() -> Any:
        streams = [
            engine.llm.generate(
                PROMPTS[number % 3], _parameters(max_tokens=number + 1, ignore_eos=True), f"many-{number}"
            )
            for number in range(6)
        ]
        return await asyncio.gather(*map(_all, streams))

    engine.run(many())
    found = {span.attributes["gen_ai.request.id"]: span.attributes for span in spans.spans()}
    assert {name: seen["gen_ai.usage.output_tokens"] for name, seen in found.items()} == {
        f"many-{number}": number + 1 for number in range(6)
    }


def test_a_generator_nobody_starts_ends_its_span(engine: Engine, spans: Recorded) -> None:
    stream = engine.llm.generate(PROMPTS[0], _parameters(max_tokens=3), "unstarted")
    del stream
    gc.collect()
    span = spans.only()
    assert (span.status, span.attributes["gen_ai.request.id"]) == ("unset", "unstarted")
    assert "gen_ai.usage.input_tokens" not in span.attributes  # no engine has seen it


def test_a_generator_read_by_several_tasks(engine: Engine, spans: Recorded) -> None:
    async def read() -> None:
        stream = engine.llm.generate(PROMPTS[0], _parameters(max_tokens=4), "shared")
        async with contextlib.aclosing(stream):
            while True:
                try:
                    await asyncio.create_task(anext(stream))
                except StopAsyncIteration:
                    break

    engine.run(read())
    assert spans.only().attributes["gen_ai.usage.output_tokens"] == 4


def _run(engine: Engine) -> Any:
    parameters = _parameters(max_tokens=3, temperature=0)
    outputs = engine.run(_all(engine.llm.generate(PROMPTS[0], parameters, "fault")))[-1:]  # the rest goes by timing
    return [(output.outputs[0].text, len(output.prompt_token_ids), output.finished) for output in outputs]


def test_a_fault_of_ours_never_reaches_who_reads_a_generator(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    _break_each(lambda: _run(engine), monkeypatch)
