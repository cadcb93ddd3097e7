"""OpenAI's answers, whole or parsed from raw bytes, to fields: usage, ids, finish reasons, messages.

Usage follows docs/dialects.md: `input` includes cached tokens, `output` includes reasoning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.providers import openai_messages as messages
from limelight.providers import vllm_server
from limelight.values import count, field, items, number, reader, word

Told = Callable[[str], Any]
_INPUT_DETAILS = (
    ("cache_write_tokens", semconv.USAGE_CACHE_WRITE_INPUT_TOKENS),
    ("created_cache_tokens", semconv.USAGE_CACHE_WRITE_INPUT_TOKENS),  # vLLM
    ("text_tokens", semconv.USAGE_TEXT_INPUT_TOKENS),
    ("image_tokens", semconv.USAGE_IMAGE_INPUT_TOKENS),
    ("audio_tokens", semconv.USAGE_AUDIO_INPUT_TOKENS),
)
_OUTPUT_DETAILS = (
    ("reasoning_tokens", semconv.USAGE_REASONING_OUTPUT_TOKENS),
    ("text_tokens", semconv.USAGE_TEXT_OUTPUT_TOKENS),
    ("image_tokens", semconv.USAGE_IMAGE_OUTPUT_TOKENS),
    ("audio_tokens", semconv.USAGE_AUDIO_OUTPUT_TOKENS),
    ("accepted_prediction_tokens", semconv.LIMELIGHT_ACCEPTED_PREDICTION_TOKENS),
    ("rejected_prediction_tokens", semconv.LIMELIGHT_REJECTED_PREDICTION_TOKENS),
)
_CACHE_WRITES = (
    ("ttl_30m_tokens", semconv.LIMELIGHT_CACHE_WRITE_30M_INPUT_TOKENS),
    ("ttl_12h_tokens", semconv.LIMELIGHT_CACHE_WRITE_12H_INPUT_TOKENS),
)
_GROQ_SECONDS = (
    ("queue_time", semconv.LATENCY_TIME_IN_QUEUE),
    ("prompt_time", semconv.LATENCY_TIME_IN_PREFILL),
    ("completion_time", semconv.LATENCY_TIME_IN_DECODE),
    ("total_time", semconv.LATENCY_TIME_IN_INFERENCE),
)
_LLAMA_CPP_MS = (("prompt_ms", semconv.LATENCY_TIME_IN_PREFILL), ("predicted_ms", semconv.LATENCY_TIME_IN_DECODE))


def read_usage(call: Call, usage: Any) -> None:
    """Token counts of a chat completion, a response or an embedding; a count that is absent stays unknown."""
    if usage is None:
        return
    told = reader(usage)
    inputs = reader(told("prompt_tokens_details") or told("input_tokens_details"))
    outputs = reader(told("completion_tokens_details") or told("output_tokens_details"))
    read = _first(told("prompt_tokens"), told("input_tokens"))
    cached = _first(inputs("cached_tokens"), told("prompt_cache_hit_tokens"))  # the latter: DeepSeek
    call.set(semconv.USAGE_INPUT_TOKENS, read)
    call.set(semconv.USAGE_OUTPUT_TOKENS, _output(told, read, count(outputs("reasoning_tokens"))))
    call.set(semconv.USAGE_CACHE_READ_INPUT_TOKENS, cached)
    _set_each(call, inputs, _INPUT_DETAILS, count)
    _set_each(call, outputs, _OUTPUT_DETAILS, count)
    _set_each(call, reader(inputs("cache_write_tokens_details")), _CACHE_WRITES, count)
    _set_each(call, told, _GROQ_SECONDS, number)


def _set_each(call: Call, told: Told, known: tuple[tuple[str, str], ...], kind: Callable[[Any], Any]) -> None:
    for name, attribute in known:
        value = told(name)
        if value is not None:
            call.set(attribute, kind(value))


def _output(told: Told, read: int | None, reasoning: int | None) -> int | None:
    """The output with its reasoning: xAI counts it beside the completion, which shows in the total."""
    written = _first(told("completion_tokens"), told("output_tokens"))
    total = count(told("total_tokens"))
    if read is None or written is None or not reasoning or total != read + written + reasoning:
        return written
    return written + reasoning


def _first(value: Any, otherwise: Any) -> int | None:
    return count(otherwise) if value is None else count(value)


def read_timings(call: Call, timings: Any) -> None:
    """llama.cpp's split of the server's time (milliseconds) as prefill and decode in seconds."""
    if timings is None:
        return
    for name, attribute in _LLAMA_CPP_MS:
        value = number(field(timings, name))
        call.set(attribute, None if value is None else value / 1000)


def read_head(call: Call, answer: Any) -> None:
    """What chat completions, responses and their chunks share: id, model, tier, fingerprint; and who answered."""
    told = reader(answer)
    call.set(semconv.RESPONSE_ID, word(told("id")) or None)
    call.set(semconv.RESPONSE_MODEL, word(told("model")) or None)
    call.set(semconv.OPENAI_RESPONSE_SERVICE_TIER, word(told("service_tier")))
    call.set(semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT, word(told("system_fingerprint")))
    vllm_server.recognise(call, answer)


def read_chat(call: Call, answer: Any) -> None:
    """Fields of a whole chat completion or completion (object or parsed JSON)."""
    told = reader(answer)
    read_head(call, answer)
    read_usage(call, told("usage"))
    read_timings(call, told("timings"))
    vllm_server.read_metrics(call, told("metrics"))
    choices = items(told("choices"))
    call.set(semconv.RESPONSE_FINISH_REASONS, [r for c in choices if (r := word(field(c, "finish_reason")))] or None)
    if call.records_content:
        call.set_messages(semconv.OUTPUT_MESSAGES, [messages.of_choice(choice) for choice in choices])


def read_response(call: Call, answer: Any) -> None:
    """Fields of a whole response of the Responses API (object or parsed JSON)."""
    read_usage(call, field(answer, "usage"))
    vllm_server.read_metrics(call, field(answer, "metrics"))
    read_fetched(call, answer)


def read_fetched(call: Call, answer: Any) -> None:
    """The same without usage, which belongs to the call that made the response."""
    read_head(call, answer)
    reason = messages.finish_of_response(answer)
    call.set(semconv.RESPONSE_FINISH_REASONS, None if reason is None else [reason])
    if call.records_content:
        parts = [part for item in items(field(answer, "output")) for part in messages.parts_of_item(item)]
        call.set_messages(semconv.OUTPUT_MESSAGES, messages.of_output(parts, reason))
    error = field(answer, "error")
    if error is not None and field(answer, "status") == "failed":
        read_error(call, error)


def read_error(call: Call, error: Any) -> None:
    """An error inside an answer that was none over HTTP."""
    kind = word(field(error, "code")) or word(field(error, "type")) or "error"
    call.refuse(kind, word(field(error, "message")) or "")


def read_embedding(call: Call, answer: Any) -> None:
    """Fields of an embeddings answer (object or parsed JSON)."""
    call.set(semconv.RESPONSE_MODEL, word(field(answer, "model")) or None)
    vllm_server.recognise(call, answer)
    read_usage(call, field(answer, "usage"))
    first = next(iter(items(field(answer, "data"))), None)
    vector = items(field(first, "embedding"))
    call.set(semconv.EMBEDDINGS_DIMENSION_COUNT, len(vector) or None)
