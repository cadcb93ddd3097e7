"""LiteLLM's answers to fields: what it keeps beside them (who answered, what it cost), and usage in OpenAI's shape."""

from __future__ import annotations

from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.providers import litellm_names as names
from limelight.providers import openai_answers
from limelight.providers.hosts import of_address
from limelight.values import count, field, items, number, word

Json = dict[str, Any]
_GUESSED = frozenset({"anthropic", "aws.bedrock"})
"""Who sends no count of the reasoning: LiteLLM counts it itself, or says that there was none."""
_MODALITIES = ("image_tokens", "audio_tokens")
"""Not the text: LiteLLM says of it what is left."""


def hidden(value: Any) -> Any:
    """What LiteLLM keeps beside an answer, a chunk or a stream: a dict or an object."""
    return getattr(value, "_hidden_params", None)


def read_origin(call: Call, result: Any, *, is_stream: bool) -> None:
    """Who answered, and where: LiteLLM's own resolution, which may have fallen back to another model."""
    params = hidden(result)
    name = field(params, "custom_llm_provider") or (getattr(result, "custom_llm_provider", None) if is_stream else None)
    provider = names.provider(name)
    call.asked = provider or call.asked
    where = {key: value for key, value in of_address(field(params, "api_base"), call.asked, "").items() if value}
    for attribute, value in where.items():
        call.set(attribute, value)
    if call.request is not None:
        call.request = {**call.request, **where}
    if is_cached(result):
        call.set(semconv.LIMELIGHT_CACHE_HIT, True)


def is_cached(result: Any) -> bool:
    """Whether LiteLLM answered from its cache: nothing was asked, and the counts are those of another call."""
    is_hit = field(hidden(result), "cache_hit") is True
    return is_hit or getattr(result, "custom_llm_provider", None) == "cached_response"


def read_chat(call: Call, answer: Any) -> None:
    """Fields of a whole completion or text completion."""
    openai_answers.read_chat(call, plain(answer, ("choices",), usage(answer, call.asked)))
    _read_rest(call, answer)


def read_response(call: Call, answer: Any) -> None:
    """Fields of a whole response of the Responses API."""
    whole = plain(answer, ("output", "status", "incomplete_details", "error"), usage(answer, call.asked))
    openai_answers.read_response(call, whole)
    _read_rest(call, answer)


def read_embedding(call: Call, answer: Any) -> None:
    """Fields of an embeddings answer, which has no output: LiteLLM says 0 of it."""
    counted = usage(answer, call.asked)
    read = None if counted is None else {"prompt_tokens": counted["prompt_tokens"]}
    openai_answers.read_embedding(call, plain(answer, ("data",), read))
    _read_rest(call, answer)


def _read_rest(call: Call, answer: Any) -> None:
    params = hidden(answer)
    call.set(semconv.RESPONSE_MODEL, word(field(params, "provider_response_model")))
    if not is_cached(answer):
        read_cost(call, field(params, "response_cost"), field(field(answer, "usage"), "cost"))


def read_cost(call: Call, *costs: Any) -> None:
    """The first cost that is known, in USD; LiteLLM says 0 of what it has no price for."""
    known = (number(cost) for cost in costs)
    call.set(semconv.USAGE_COST, next((float(cost) for cost in known if cost), None))


def plain(answer: Any, fields: tuple[str, ...], counted: Json | None) -> Json:
    """An answer or chunk for the readers of OpenAI's shape, with the usage given."""
    head = ("id", "model", "service_tier", "system_fingerprint", "timings")
    return {name: field(answer, name) for name in (*head, *fields)} | {"usage": counted}


def usage(answer: Any, provider: Any) -> Json | None:
    """The usage of an answer that was asked for, not cached, and whose provider counted: LiteLLM's own is 0 and 0."""
    found = field(answer, "usage")
    return None if is_cached(answer) or found is None else counts(found, provider)


def counts(found: Any, provider: Any) -> Json | None:
    """One usage as plain data, without what LiteLLM made up; None where nothing was counted."""
    read = _first(field(found, "prompt_tokens"), field(found, "input_tokens"))
    written = _first(field(found, "completion_tokens"), field(found, "output_tokens"))
    if not read and not written:
        return None
    inputs = field(found, "prompt_tokens_details") or field(found, "input_tokens_details")
    outputs = field(found, "completion_tokens_details") or field(found, "output_tokens_details")
    details = {name: field(inputs, name) for name in _MODALITIES}
    details["cached_tokens"] = _first(field(inputs, "cached_tokens"), field(found, "cache_read_input_tokens"))
    created = _first(field(inputs, "cache_write_tokens"), field(inputs, "cache_creation_tokens"))
    details["cache_write_tokens"] = _first(created, field(found, "cache_creation_input_tokens"))
    splits = {name: field(outputs, name) for name in _MODALITIES}
    splits["reasoning_tokens"] = None if provider in _GUESSED else field(outputs, "reasoning_tokens")
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": count(field(found, "total_tokens")),
        "prompt_tokens_details": details,
        "completion_tokens_details": splits,
    }


def _first(value: Any, otherwise: Any) -> int | None:
    return count(otherwise) if value is None else count(value)


def last_usage(chunks: Any, provider: Any) -> Json | None:
    """The usage in a stream's chunks, as its provider sent it: later counts replace earlier ones, unless by 0."""
    merged: Json = {}
    for chunk in items(chunks):
        found = field(chunk, "usage")
        for name, value in (counts(found, provider) or {} if found is not None else {}).items():
            if value or name not in merged:
                merged[name] = value
    return merged or None
