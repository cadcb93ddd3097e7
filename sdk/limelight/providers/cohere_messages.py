"""Cohere's messages, documents and billed units to semconv: version 2 of the API is close to OpenAI's, 1 is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limelight import semconv
from limelight.call import Call
from limelight.providers import openai_messages
from limelight.values import count, field, items, word

Message = dict[str, Any]
_ROLES = {"USER": "user", "CHATBOT": "assistant", "SYSTEM": "system", "TOOL": "tool"}


def of_chat(messages: Any) -> list[Message]:
    """The `messages` argument of version 2; an assistant's tool plan is its reasoning."""
    return [_with_plan(message) for message in items(messages)]


def _with_plan(message: Any) -> Message:
    (found,) = openai_messages.of_chat([message])
    plan = word(field(message, "tool_plan"))
    return {**found, "parts": [{"type": "reasoning", "content": plan}, *found["parts"]]} if plan else found


def of_answer(message: Any, finish_reason: str | None) -> Message:
    """The message of a whole answer of version 2."""
    return {**_with_plan(message), "finish_reason": finish_reason or ""}


def of_legacy(arguments: Mapping[str, Any]) -> list[Message]:
    """History and message of version 1."""
    history = [_legacy(message) for message in items(arguments.get("chat_history"))]
    results = [_result(result) for result in items(arguments.get("tool_results"))]
    asked = word(arguments.get("message"))
    last: list[Message] = [{"role": "user", "parts": [openai_messages.text_part(asked)]}] if asked else []
    return [*history, *last, *([{"role": "tool", "parts": results}] if results else [])]


def _legacy(message: Any) -> Message:
    given = word(field(message, "role")) or "USER"
    text = word(field(message, "message"))
    parts = [openai_messages.text_part(text)] if text else []
    parts += [tool_call(called) for called in items(field(message, "tool_calls"))]
    parts += [_result(result) for result in items(field(message, "tool_results"))]
    return {"role": _ROLES.get(given, given.lower()), "parts": parts}


def tool_call(called: Any) -> dict[str, Any]:
    """A tool call of version 1: it has no id, and its parameters are an object."""
    return openai_messages.tool_call_part(None, field(called, "name"), field(called, "parameters"))


def _result(result: Any) -> dict[str, Any]:
    name = field(field(result, "call"), "name")
    return {"type": "tool_call_response", "name": name, "response": field(result, "outputs")}


def of_documents(documents: Any) -> list[dict[str, Any]]:
    """Documents given to a chat: texts, or objects with an id."""
    return [
        {"id": _id(document, index), "content": _content(document)} for index, document in enumerate(items(documents))
    ]


def ranked(results: Any, documents: Any) -> list[dict[str, Any]]:
    """What a rerank found, best first: id (or position in what was given), score and the document itself."""
    given = items(documents)
    found: list[dict[str, Any]] = []
    for result in items(results):
        index = count(field(result, "index"))
        document = given[index] if index is not None and index < len(given) else field(result, "document")
        score = field(result, "relevance_score")
        found.append({"id": _id(document, index), "score": score, "content": _content(document)})
    return found


def _id(document: Any, index: int | None) -> str | None:
    return word(field(document, "id")) or (None if index is None else str(index))


def _content(document: Any) -> Any:
    data = field(document, "data")
    text = word(document) or word(field(document, "text")) or word(data)
    return (document if data is None else data) if text is None else text


def read_usage(call: Call, usage: Any) -> None:
    """Billed units, whatever else was counted; what nothing was billed for (a private deployment) by its tokens.

    Cached tokens are part of the count of all tokens, which is not recorded: they are where they fit in what is.
    """
    billed, counted = field(usage, "billed_units"), field(usage, "tokens")
    read = _first(field(billed, "input_tokens"), field(counted, "input_tokens"))
    cached = count(field(usage, "cached_tokens"))
    call.set(semconv.USAGE_INPUT_TOKENS, read)
    call.set(semconv.USAGE_OUTPUT_TOKENS, _first(field(billed, "output_tokens"), field(counted, "output_tokens")))
    if read is not None and cached is not None and cached <= read:
        call.set(semconv.USAGE_CACHE_READ_INPUT_TOKENS, cached)
    call.set(semconv.USAGE_TEXT_INPUT_TOKENS, count(field(billed, "text_tokens")))
    call.set(semconv.USAGE_IMAGE_INPUT_TOKENS, count(field(billed, "image_tokens")))
    call.set(semconv.LIMELIGHT_SEARCH_UNITS, count(field(billed, "search_units")))


def _first(billed: Any, counted: Any) -> int | None:
    return count(counted) if billed is None else count(billed)
