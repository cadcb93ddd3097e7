"""Content in events: prompts and answers that conventions of 2024 and 2025 put beside the span instead of on it.

Span events and log records carry the same: `gen_ai.client.inference.operation.details` with whole messages, one event
a message (`gen_ai.user.message`, `gen_ai.choice`, …), or `gen_ai.content.prompt` and `.completion`. What comes out has
the names and forms of attributes, so that the readers of attributes read it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from limelight import semconv as s
from limelight_collector.attributes import parsed

Event = tuple[str, Any, dict[str, Any]]
"""Name, body (None where there is none), attributes."""

_DETAILS = frozenset({"gen_ai.client.inference.operation.details", "gen_ai.client.operation.details"})
_WHOLE = (s.SYSTEM_INSTRUCTIONS, s.INPUT_MESSAGES, s.OUTPUT_MESSAGES, s.TOOL_DEFINITIONS)
_ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_CHOICE = "gen_ai.choice"
_PARTS = {"gen_ai.content.prompt": "gen_ai.prompt", "gen_ai.content.completion": "gen_ai.completion"}
_BODY = "gen_ai.event.content"  # Azure's: the body as an attribute

NAMES = frozenset({*_DETAILS, *_ROLES, _CHOICE, *_PARTS})
"""Events that carry content."""


def read_events(events: Iterable[Event]) -> dict[str, Any]:
    """Attributes that say what the events say; empty where none of them carries content."""
    found: dict[str, Any] = {}
    given: list[Any] = []
    answers: list[Any] = []
    for name, body, attributes in events:
        if name in _DETAILS:
            inside = body if isinstance(body, dict) else {}
            for key in _WHOLE:
                value = attributes.get(key, inside.get(key))
                if value is not None:
                    found[key] = value
        elif name in _PARTS:
            found[_PARTS[name]] = attributes.get(_PARTS[name])
        elif name in _ROLES:
            given.append(_message(_body(body, attributes), _ROLES[name]))
        elif name == _CHOICE:
            answers.append(_answer(_body(body, attributes)))
    if given:
        found.setdefault(s.INPUT_MESSAGES, given)
    if answers:
        found.setdefault(s.OUTPUT_MESSAGES, answers)
    return found


def _body(body: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    for value in (body, attributes.get(_BODY)):
        found = parsed(value)
        if isinstance(found, dict):
            return found
        if isinstance(found, str) and found:
            return {"content": found}
    return {key: parsed(value) for key, value in attributes.items() if key in {"content", "role", "id", "message"}}


def _message(body: dict[str, Any], role: str) -> dict[str, Any]:
    if role == "tool":
        call_id = body.get("id") or body.get("tool_call_id")  # as Azure and Semantic Kernel name it
        return {"role": role, "tool_call_id": call_id, "content": body.get("content")}
    return {"role": role, **_whole(body)}


def _whole(body: dict[str, Any]) -> dict[str, Any]:
    """The message itself where it is the content of the body (Gemini's `{"content": {"parts": …, "role": …}}`)."""
    content = body.get("content")
    return content if isinstance(content, dict) and isinstance(content.get("parts"), list) else body


def _answer(body: dict[str, Any]) -> dict[str, Any]:
    inner = body.get("message")
    message = inner if isinstance(inner, dict) else {"content": inner if inner is not None else body.get("content")}
    told = {"role": "assistant", **_whole(message)}
    calls = body.get("tool_calls")
    if calls and "tool_calls" not in told:
        told["tool_calls"] = calls
    if body.get("finish_reason") is not None:
        told["finish_reason"] = body["finish_reason"]
    return told
