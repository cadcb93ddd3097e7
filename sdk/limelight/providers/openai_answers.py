"""OpenAI's answers, whole or parsed from raw bytes, to fields: usage, ids, finish reasons, messages.

Usage follows docs/dialects.md: `input` includes cached tokens, `output` includes reasoning.
"""

from __future__ import annotations

from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.content import field
from limelight.providers import openai_messages as messages


def read_usage(call: Call, usage: Any) -> None:
    """Token counts of a chat completion, a response or an embedding; a count that is absent stays unknown."""
    if usage is None:
        return
    inputs = field(usage, "prompt_tokens_details") or field(usage, "input_tokens_details")
    outputs = field(usage, "completion_tokens_details") or field(usage, "output_tokens_details")
    cached = _first(field(inputs, "cached_tokens"), field(usage, "prompt_cache_hit_tokens"))  # the latter: DeepSeek
    call.set(semconv.USAGE_INPUT_TOKENS, _first(field(usage, "prompt_tokens"), field(usage, "input_tokens")))
    call.set(semconv.USAGE_OUTPUT_TOKENS, _first(field(usage, "completion_tokens"), field(usage, "output_tokens")))
    call.set(semconv.USAGE_CACHE_READ_INPUT_TOKENS, cached)
    call.set(semconv.USAGE_CACHE_WRITE_INPUT_TOKENS, field(inputs, "cache_write_tokens"))
    call.set(semconv.USAGE_REASONING_OUTPUT_TOKENS, field(outputs, "reasoning_tokens"))
    call.set(semconv.USAGE_AUDIO_INPUT_TOKENS, field(inputs, "audio_tokens"))
    call.set(semconv.USAGE_AUDIO_OUTPUT_TOKENS, field(outputs, "audio_tokens"))


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def read_timings(call: Call, timings: Any) -> None:
    """llama.cpp's split of the server's time (milliseconds) as prefill and decode in seconds."""
    for name, attribute in (
        ("prompt_ms", semconv.LATENCY_TIME_IN_PREFILL),
        ("predicted_ms", semconv.LATENCY_TIME_IN_DECODE),
    ):
        value = field(timings, name)
        if isinstance(value, (int, float)):
            call.set(attribute, value / 1000)


def read_head(call: Call, answer: Any) -> None:
    """What chat completions, responses and their chunks share: id, model, tier, fingerprint."""
    call.set(semconv.RESPONSE_ID, field(answer, "id") or None)
    call.set(semconv.RESPONSE_MODEL, field(answer, "model") or None)
    call.set(semconv.OPENAI_RESPONSE_SERVICE_TIER, field(answer, "service_tier"))
    call.set(semconv.OPENAI_RESPONSE_SYSTEM_FINGERPRINT, field(answer, "system_fingerprint"))


def read_chat(call: Call, answer: Any) -> None:
    """Fields of a whole chat completion (object or parsed JSON)."""
    read_head(call, answer)
    read_usage(call, field(answer, "usage"))
    read_timings(call, field(answer, "timings"))
    choices = field(answer, "choices") or []
    call.set(semconv.RESPONSE_FINISH_REASONS, [r for c in choices if (r := field(c, "finish_reason"))] or None)
    if call.records_content:
        call.set_messages(semconv.OUTPUT_MESSAGES, [messages.of_choice(choice) for choice in choices])


def read_response(call: Call, answer: Any) -> None:
    """Fields of a whole response of the Responses API (object or parsed JSON)."""
    read_head(call, answer)
    read_usage(call, field(answer, "usage"))
    reason = messages.finish_of_response(answer)
    call.set(semconv.RESPONSE_FINISH_REASONS, None if reason is None else [reason])
    if call.records_content:
        call.set_messages(semconv.OUTPUT_MESSAGES, messages.of_output(field(answer, "output") or [], reason))
    error = field(answer, "error")
    if error is not None and field(answer, "status") == "failed":
        call.refuse(str(field(error, "code") or "failed"), str(field(error, "message") or ""))


def read_embedding(call: Call, answer: Any) -> None:
    """Fields of an embeddings answer (object or parsed JSON)."""
    call.set(semconv.RESPONSE_MODEL, field(answer, "model") or None)
    read_usage(call, field(answer, "usage"))
    first = next(iter(field(answer, "data") or []), None)
    vector = field(first, "embedding")
    if isinstance(vector, list):
        call.set(semconv.EMBEDDINGS_DIMENSION_COUNT, len(vector))
