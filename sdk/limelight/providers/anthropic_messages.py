"""Anthropic's messages and content blocks to semconv messages: `{role, parts:[{type, …}], finish_reason?}`.

Works on what users pass (dicts or the library's objects) and on what comes back (objects or parsed JSON). Only lists
and tuples are read: an iterator is the user's.
"""

from __future__ import annotations

from typing import Any

from limelight.content import blob_of_base64
from limelight.values import field, items, word

Message = dict[str, Any]
Part = dict[str, Any]


def of_request(messages: Any) -> list[Message]:
    """The `messages` argument. Roles as sent: tools answer in messages of the user."""
    return [
        {"role": word(field(message, "role")) or "user", "parts": parts(field(message, "content"))}
        for message in items(messages)
    ]


def of_answer(blocks: Any, stop_reason: str | None) -> list[Message]:
    """The content of an answer as one message; nothing where it has none."""
    found = parts(blocks)
    return [{"role": "assistant", "parts": found, "finish_reason": stop_reason or ""}] if found else []


def parts(content: Any) -> list[Part]:
    """Text or blocks as parts."""
    text = word(content)
    if text is not None:
        return [{"type": "text", "content": text}] if text else []
    return [{name: value for name, value in _part(block).items() if value is not None} for block in items(content)]


def _part(block: Any) -> Part:
    kind = word(field(block, "type")) or "custom"
    if kind == "text":
        return {"type": "text", "content": field(block, "text"), "citations": items(field(block, "citations")) or None}
    if kind == "thinking":
        return {"type": "reasoning", "content": field(block, "thinking")}
    if kind == "redacted_thinking":
        return {"type": kind, "size": len(word(field(block, "data")) or "")}
    if kind == "tool_use":
        called = {"id": field(block, "id"), "name": field(block, "name")}
        return {"type": "tool_call", **called, "arguments": field(block, "input")}
    if kind == "tool_result":
        content = field(block, "content")
        response = parts(content) if word(content) is None else content
        failed = True if field(block, "is_error") is True else None
        answered = {"id": field(block, "tool_use_id"), "response": response, "is_error": failed}
        return {"type": "tool_call_response", **answered}
    if kind in {"image", "document"}:
        return {**_source(kind, field(block, "source")), "title": field(block, "title")}
    if kind == "container_upload":
        return {"type": "file", "file_id": field(block, "file_id")}
    return _served(kind, block)


def _served(kind: str, block: Any) -> Part:
    """What Anthropic's own servers call and answer, and kinds that are newer than this module."""
    if kind.endswith("_tool_use"):
        asked = {"type": kind, "arguments": field(block, "input")}
        if field(block, "server_name") is not None:  # of an MCP server
            asked["server_name"] = field(block, "server_name")
        return {
            "type": "server_tool_call",
            "id": field(block, "id"),
            "name": field(block, "name"),
            "server_tool_call": asked,
        }
    if kind.endswith("_tool_result"):
        answer = {"type": kind, "content": field(block, "content")}
        return {
            "type": "server_tool_call_response",
            "id": field(block, "tool_use_id"),
            "server_tool_call_response": answer,
        }
    return {"type": kind, "content": block}


def _source(modality: str, source: Any) -> Part:
    kind = word(field(source, "type"))
    url = word(field(source, "url"))
    if url is not None:
        return {"type": "uri", "uri": url, "modality": modality}
    if kind == "base64":
        mime_type = word(field(source, "media_type")) or modality
        return {**blob_of_base64(mime_type, word(field(source, "data")) or ""), "modality": modality}
    if kind == "text":
        return {"type": "text", "content": field(source, "data")}
    if kind == "content":
        return {"type": modality, "content": parts(field(source, "content"))}
    return {"type": "file", "file_id": field(source, "file_id"), "modality": modality}
