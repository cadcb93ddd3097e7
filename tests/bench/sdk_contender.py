"""One contender of `make bench-sdk`, in a process of its own; `sdk.py` describes the method and drives it.

Reads one JSON command a line, `{"workload", "calls"}`, and answers with CPU seconds a call: `here_s`, the median
difference between a traced call and an untraced one beside it, on the calling thread; `elsewhere_s`, what all other
threads and the flush at the end took. The first answer is what starting took.
"""

from __future__ import annotations

import functools
import gc
import importlib
import json
import os
import statistics
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

MODEL = "gpt-4o-mini"
PARAMETERS: dict[str, Any] = {"model": MODEL, "temperature": 0.2, "max_tokens": 512}


def _texts() -> list[list[dict[str, Any]]]:
    """64 prompts: 400 characters of instructions, 1,600 of a question, from this machine's standard library."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:40]
    text = " ".join(" ".join(file.read_text(errors="ignore").split()) for file in files)
    pieces = [text[start : start + 2000] for start in range(0, 64 * 2000, 2000)]
    return [[{"role": "system", "content": p[:400]}, {"role": "user", "content": p[400:]}] for p in pieces]


PROMPTS = _texts()
WORDS = [f"{number:02} and so on, and further" for number in range(50)]
ANSWER = "".join(WORDS)
USAGE = {
    "prompt_tokens": 412,
    "completion_tokens": 230,
    "total_tokens": 642,
    "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
HEAD = {"id": "chatcmpl-B1", "created": 1764000000, "model": MODEL, "service_tier": "default"}


Messages = list[dict[str, Any]]


class Contender(NamedTuple):
    """How a program under this tracer calls the model; `flush` sends what is queued."""

    chat: Callable[[Any, Messages], None]
    stream: Callable[[Any, Messages], None]
    flush: Callable[[], Any]
    prepare: Callable[[Any], Any] | None = None
    """What the client needs."""
    address: str = "https://api.openai.com/v1"


def whole(create: Any, messages: Messages) -> None:
    """One call, as a program without tracing makes it; `create` is the client's method."""
    answer = create(messages=messages, **PARAMETERS)
    assert answer.choices[0].message.content == ANSWER


def streamed(create: Any, messages: Messages) -> None:
    """One streamed call, read to its end; usage is asked for, so that all get the same chunks."""
    for chunk in create(messages=messages, stream=True, stream_options={"include_usage": True}, **PARAMETERS):
        _ = chunk.choices and chunk.choices[0].delta.content


def nothing() -> None:
    """No tracer, nothing to flush."""


def bare(_sink: str) -> Contender:
    """No tracing."""
    return Contender(whole, streamed, nothing)


def by_hand(tracer: Any, flush: Callable[[], Any]) -> Contender:
    """One span with Limelight's attributes, written by someone who knows what to write."""
    from opentelemetry.trace import SpanKind

    def request(asked: Messages, *, stream: bool) -> dict[str, Any]:
        messages = [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in asked]
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": MODEL,
            "gen_ai.request.temperature": PARAMETERS["temperature"],
            "gen_ai.request.max_tokens": PARAMETERS["max_tokens"],
            "openai.api.type": "chat_completions",
            "server.address": "api.openai.com",
            "server.port": 443,
            "gen_ai.input.messages": json.dumps(messages),
        }
        return {**attributes, "gen_ai.request.stream": True} if stream else attributes

    def response(answer: Any, usage: Any, text: str | None, reason: str | None) -> dict[str, Any]:
        message = {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": reason}
        return {
            "gen_ai.response.id": answer.id,
            "gen_ai.response.model": answer.model,
            "gen_ai.response.finish_reasons": [reason],
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.prompt_tokens_details.cached_tokens,
            "gen_ai.usage.reasoning.output_tokens": usage.completion_tokens_details.reasoning_tokens,
            "gen_ai.usage.audio.input_tokens": usage.prompt_tokens_details.audio_tokens,
            "gen_ai.usage.audio.output_tokens": usage.completion_tokens_details.audio_tokens,
            "openai.response.service_tier": answer.service_tier,
            "gen_ai.output.messages": json.dumps([message]),
        }

    def chat(create: Any, messages: Messages) -> None:
        attributes = request(messages, stream=False)
        with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=attributes) as s:
            answer = create(messages=messages, **PARAMETERS)
            choice = answer.choices[0]
            s.set_attributes(response(answer, answer.usage, choice.message.content, choice.finish_reason))

    def stream(create: Any, messages: Messages) -> None:
        attributes = request(messages, stream=True)
        with tracer.start_as_current_span(f"chat {MODEL}", kind=SpanKind.CLIENT, attributes=attributes) as s:
            started, first_s, text, reason, usage, chunk = time.perf_counter(), None, [], None, None, None
            for chunk in create(messages=messages, stream=True, stream_options={"include_usage": True}, **PARAMETERS):
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    reason = choice.finish_reason or reason
                    if choice.delta.content:
                        if first_s is None:
                            first_s = time.perf_counter() - started
                        text.append(choice.delta.content)
            s.set_attributes(response(chunk, usage, "".join(text), reason))
            s.set_attribute("gen_ai.response.time_to_first_chunk", first_s)

    return Contender(chat, stream, flush)


def noop(_sink: str) -> Contender:
    """The span by hand, without an OpenTelemetry SDK behind the API."""
    from opentelemetry import trace

    return by_hand(trace.get_tracer("bench"), nothing)


def _provider(sink: str) -> Any:
    """The stock way out: a batch processor and the OTLP exporter over HTTP, both as they come."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": "bench"}))
    provider.add_span_processor(BatchSpanProcessor(_exporter(sink)))
    return provider


def _exporter(sink: str) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=f"{sink}/v1/traces")


def floor(sink: str) -> Contender:
    """The span by hand, sent the stock way."""
    provider = _provider(sink)
    return by_hand(provider.get_tracer("bench"), provider.force_flush)


def limelight(sink: str, **settings: Any) -> Contender:
    """`limelight.init()` as it comes."""
    import limelight

    limelight.init(endpoint=sink, service_name="bench", **settings)
    return Contender(whole, streamed, lambda: limelight.flush(60))


def limelight_own_server(sink: str) -> Contender:
    """The same for a server of one's own: the trace travels with the request, and answers may show vLLM."""
    return limelight(sink)._replace(address="http://model.test:8000/v1")


def limelight_without_content(sink: str) -> Contender:
    """The same without prompts and answers."""
    return limelight(sink, capture="none")


def limelight_shut_down(sink: str) -> Contender:
    """Instrumented, then switched off: every call passes through our wrapper."""
    contender = limelight(sink)
    import limelight as sdk

    sdk.shutdown()
    return contender


def limelight_disabled(sink: str) -> Contender:
    """Switched off by the environment: nothing is instrumented."""
    os.environ["LIMELIGHT_DISABLED"] = "1"
    return limelight(sink)


def openinference(sink: str) -> Contender:
    """OpenInference, sent the stock way."""
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider = _provider(sink)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return Contender(whole, streamed, provider.force_flush)


def openllmetry(sink: str) -> Contender:
    """Traceloop's OpenLLMetry, sent the stock way."""
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    provider = _provider(sink)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return Contender(whole, streamed, provider.force_flush)


def otel_genai(sink: str) -> Contender:
    """OpenTelemetry's own instrumentation with content on spans, sent the stock way."""
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only"
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

    provider = _provider(sink)
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    return Contender(whole, streamed, provider.force_flush)


def logfire(sink: str) -> Contender:
    """Logfire with nothing but an OTLP exporter."""
    import logfire as sdk
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    sdk.configure(
        send_to_logfire=False,
        console=False,
        metrics=False,
        service_name="bench",
        additional_span_processors=[BatchSpanProcessor(_exporter(sink))],
    )
    return Contender(whole, streamed, sdk.force_flush, sdk.instrument_openai)


def langfuse(sink: str) -> Contender:
    """Langfuse, which wraps on import, with its own exporter (gzip, as it comes)."""
    import langfuse.openai
    from langfuse import Langfuse

    sdk = Langfuse(public_key="pk-lf-bench", secret_key="sk-lf-bench", base_url=sink)
    assert langfuse.openai
    return Contender(whole, streamed, sdk.flush)


CONTENDERS: dict[str, Callable[[str], Contender]] = {
    "bare": bare,
    "no-op": noop,
    "floor": floor,
    "limelight": limelight,
    "limelight-own-server": limelight_own_server,
    "limelight-no-content": limelight_without_content,
    "limelight-shut-down": limelight_shut_down,
    "limelight-disabled": limelight_disabled,
    "otel-genai": otel_genai,
    "openllmetry": openllmetry,
    "openinference": openinference,
    "logfire": logfire,
    "langfuse": langfuse,
}


def _chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
    body = {**HEAD, "object": "chat.completion.chunk", "choices": choices, "usage": usage}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _choice(delta: dict[str, Any], reason: str | None = None) -> list[dict[str, Any]]:
    return [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]


def client(kind: Any, http: Any, address: str) -> Any:
    """A real client that is answered from memory: 50 chunks of text, a head, an end and usage where streamed."""
    import httpx2

    message = {"role": "assistant", "content": ANSWER, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    body = json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()
    first = _chunk(_choice({"role": "assistant", "content": "", "refusal": None}), None)
    last = [_chunk(_choice({}, "stop"), None), _chunk([], USAGE), b"data: [DONE]\n\n"]
    events = [first, *(_chunk(_choice({"content": word}), None) for word in WORDS), *last]

    def answer(request: httpx2.Request) -> httpx2.Response:
        if b'"stream":true' in request.content:
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=iter(events))
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=body)

    mock = http(transport=httpx2.MockTransport(answer))
    return kind(api_key="none", base_url=address, http_client=mock)


def start(name: str, sink: str) -> tuple[Contender, float]:
    """Start a contender in a program that uses OpenTelemetry's SDK and exporter and the client; CPU seconds of that."""
    for module in (
        "openai.resources.chat.completions",
        "opentelemetry.sdk.trace.export",
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    ):
        importlib.import_module(module)
    before = time.process_time()
    contender = CONTENDERS[name](sink)
    return contender, time.process_time() - before


def turn(contender: Contender, traced: Any, untraced: Any, workload: str, calls: int) -> dict[str, float]:
    """Make `calls` pairs of calls, a traced and an untraced one, and flush."""
    call, plain = (contender.stream, streamed) if workload == "stream" else (contender.chat, whole)
    differences: list[float] = []
    clock, spent = time.thread_time, 0.0
    gc.collect()
    before = time.process_time()
    for number in range(calls):
        messages = PROMPTS[number % len(PROMPTS)]
        started = clock()
        if number % 2:
            plain(untraced, messages)
            middle = clock()
            call(traced, messages)
        else:
            call(traced, messages)
            middle = clock()
            plain(untraced, messages)
        ended = clock()
        spent += ended - started
        differences.append(
            (ended - middle) - (middle - started) if number % 2 else (middle - started) - (ended - middle)
        )
    contender.flush()
    elsewhere_s = (time.process_time() - before - spent) / calls
    return {"here_s": statistics.median(differences), "elsewhere_s": elsewhere_s}


def main() -> None:
    """Start the contender of the first argument against the sink of the second; then run what standard input asks."""
    import httpx2
    import openai
    from openai.resources.chat.completions import Completions

    # kept from before anybody wraps them, for the calls that nobody traces
    original, own = Completions.create, {name: getattr(openai.OpenAI, name) for name in ("request", "post")}
    unwrapped = type("Unwrapped", (openai.OpenAI,), own), type("Unwrapped", (httpx2.Client,), dict(vars(httpx2.Client)))
    contender, start_s = start(sys.argv[1], sys.argv[2])
    answer = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a vendor prints is no answer
    answer.write(json.dumps({"start_s": start_s}) + "\n")
    traced, untraced = client(openai.OpenAI, httpx2.Client, contender.address), client(*unwrapped, contender.address)
    if contender.prepare is not None:
        contender.prepare(traced)
    create, plain = traced.chat.completions.create, functools.partial(original, untraced.chat.completions)
    for line in sys.stdin:
        answer.write(json.dumps(turn(contender, create, plain, **json.loads(line))) + "\n")


if __name__ == "__main__":
    main()
