"""Prompts and answers as semconv messages: `[{role, parts: [{type, …}]}]`, whatever shape they came in.

Schema: open-telemetry/semantic-conventions-genai, "GenAI messages". OpenAI's `content` and `tool_calls` are turned into
parts, string tool arguments are parsed, nulls are dropped.
"""

from __future__ import annotations

from typing import Any

from limelight_collector.attributes import loads, parsed

Message = dict[str, Any]

_SYSTEM_ROLES = frozenset({"system", "developer"})


def read_messages(value: Any, role: str) -> list[Message] | None:
    """The messages in an attribute (array, or a JSON string of one); None if there are none. `role` is the default."""
    found = loads(value) if isinstance(value, str) else value
    if isinstance(found, dict):
        inner = found.get("messages")
        found = inner if isinstance(inner, list) else [found]
    if not isinstance(found, list) or not found:
        return None
    try:
        return [_message(item, role) for item in found]
    except RecursionError:
        return None


def read_instructions(value: Any) -> str:
    """System instructions (parts, messages or plain text) as one text."""
    found = parsed(value)
    if isinstance(found, str):
        return found
    if not isinstance(found, list):
        return ""
    return "\n".join(filter(None, (_text_of(item) for item in found)))


def system_text(messages: list[Message]) -> str:
    """The text of the system and developer messages."""
    return "\n".join(filter(None, (_text_of(message) for message in messages if message["role"] in _SYSTEM_ROLES)))


def tool_calls(messages: list[Message]) -> list[dict[str, Any]]:
    """`[{id, name, arguments}]` of every tool call in the messages."""
    return [
        {"id": part.get("id"), "name": part.get("name"), "arguments": part.get("arguments")}
        for message in messages
        for part in message["parts"]
        if part.get("type") == "tool_call"
    ]


def finish_reasons(messages: list[Message]) -> list[str]:
    """The finish reasons that older conventions put on output messages."""
    return [reason for message in messages if isinstance(reason := message.get("finish_reason"), str) and reason]


def tool_names(value: Any) -> list[str]:
    """Names in a list of tool definitions: semconv's, or OpenAI's with a `function` inside."""
    found = parsed(value)
    if not isinstance(found, list):
        return []
    names: list[str] = []
    for item in map(parsed, found):
        if isinstance(item, dict):
            function = item.get("function")
            name = item.get("name") or (function.get("name") if isinstance(function, dict) else None)
            if isinstance(name, str):
                names.append(name)
    return names


def _message(item: Any, role: str) -> Message:
    if not isinstance(item, dict):
        return {"role": role, "parts": [_part(item)]}
    message: Message = {"role": str(item.get("role") or role)}
    parts = item.get("parts")
    message["parts"] = [_part(part) for part in parts] if isinstance(parts, list) else _from_openai(item)
    for key in ("name", "finish_reason"):
        if item.get(key) is not None:
            message[key] = item[key]
    return message


def _from_openai(item: dict[str, Any]) -> list[dict[str, Any]]:
    content = item.get("content")
    if item.get("tool_call_id") is not None:
        return [{"type": "tool_call_response", "id": item["tool_call_id"], "response": _prune(parsed(content))}]
    listed = content if isinstance(content, list) else [content] if content not in (None, "") else []
    parts = [_part(part) for part in listed]
    calls = item.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        if isinstance(call, dict):
            function = call.get("function")
            source = function if isinstance(function, dict) else call
            parts.append(_part({"type": "tool_call", "id": call.get("id"), **source}))
    refusal = item.get("refusal")
    if isinstance(refusal, str) and refusal:
        parts.append({"type": "refusal", "content": refusal})
    return parts


def _part(part: Any) -> dict[str, Any]:
    if not isinstance(part, dict):
        return {"type": "text", "content": part if isinstance(part, str) else str(part)}
    found: dict[str, Any] = _prune(part)
    kind = found.get("type")
    if kind == "tool_call":
        found["arguments"] = _prune(parsed(found.get("arguments", {})))
    elif kind == "tool_call_response" and "result" in found:
        found["response"] = found.pop("result")
    elif kind in (None, "text", "input_text", "output_text") and isinstance(found.get("text"), str):
        found = {"type": "text", "content": found["text"]}
    return found


def _prune(value: Any) -> Any:
    """`value` without null members of objects."""
    if isinstance(value, dict):
        return {key: _prune(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_prune(inner) for inner in value]
    return value


def _text_of(item: Any) -> str:
    """Text of a part, or of a message's text parts."""
    if isinstance(item, str):
        return item
    if not isinstance(item, dict):
        return ""
    if isinstance(item.get("parts"), list):
        return "\n".join(filter(None, map(_text_of, item["parts"])))
    content = item.get("content", item.get("text"))
    return content if isinstance(content, str) and item.get("type", "text") == "text" else ""
