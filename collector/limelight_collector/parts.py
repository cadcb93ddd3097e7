"""Parts: one piece of a message in any provider's or framework's words becomes a part of the GenAI conventions.

`{type: text, content}`, `{type: tool_call, id, name, arguments}`, `{type: tool_call_response, id, response}`,
`{type: reasoning, content}`, `{type: refusal, content}`, blob, uri and file parts; what is unknown stays as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limelight_collector.attributes import parsed

Part = dict[str, Any]

TYPED: dict[str, tuple[str, Mapping[str, tuple[str, ...]]]] = {
    "text": ("text", {"content": ("content", "text")}),
    "input_text": ("text", {"content": ("text", "content")}),
    "output_text": ("text", {"content": ("text", "content")}),
    "refusal": ("refusal", {"content": ("refusal", "content")}),
    "thinking": ("reasoning", {"content": ("thinking", "content", "text")}),
    "reasoning": ("reasoning", {"content": ("content", "text", "reasoning", "summary")}),
    "reasoning_content": ("reasoning", {"content": ("reasoning_content", "content", "text")}),
    "tool_call": ("tool_call", {"id": ("id",), "name": ("name",), "arguments": ("arguments", "args", "input")}),
    "tool_use": ("tool_call", {"id": ("id",), "name": ("name",), "arguments": ("input", "arguments")}),
    "function_call": ("tool_call", {"id": ("call_id", "id"), "name": ("name",), "arguments": ("arguments", "args")}),
    "tool-call": ("tool_call", {"id": ("toolCallId",), "name": ("toolName",), "arguments": ("input", "args")}),
    "tool_result": ("tool_call_response", {"id": ("tool_use_id", "id"), "response": ("content", "result")}),
    "tool-result": ("tool_call_response", {"id": ("toolCallId",), "response": ("output", "result")}),
    "function_call_output": ("tool_call_response", {"id": ("call_id",), "response": ("output",)}),
    "tool_call_response": ("tool_call_response", {"id": ("id",), "response": ("response", "result", "content")}),
    "image_url": ("uri", {"modality": (), "uri": ("image_url.url", "image_url")}),
    "input_image": ("uri", {"modality": (), "uri": ("image_url", "file_id")}),
}
"""`type` of a part -> our type and, per field, where its value is. Fields that are not named are left out."""

KEYED: dict[str, tuple[str, Mapping[str, tuple[str, ...]]]] = {
    "functionCall": ("tool_call", {"id": ("id",), "name": ("name",), "arguments": ("args",)}),
    "function_call": ("tool_call", {"id": ("id",), "name": ("name",), "arguments": ("args", "arguments")}),
    "functionResponse": ("tool_call_response", {"id": ("id", "name"), "response": ("response",)}),
    "function_response": ("tool_call_response", {"id": ("id", "name"), "response": ("response",)}),
    "toolUse": ("tool_call", {"id": ("toolUseId",), "name": ("name",), "arguments": ("input",)}),
    "toolResult": ("tool_call_response", {"id": ("toolUseId",), "response": ("content",)}),
    "inlineData": ("blob", {"mime_type": ("mimeType",), "content": ("data",)}),
    "inline_data": ("blob", {"mime_type": ("mime_type",), "content": ("data",)}),
    "fileData": ("uri", {"mime_type": ("mimeType",), "uri": ("fileUri",)}),
    "file_data": ("uri", {"mime_type": ("mime_type",), "uri": ("file_uri",)}),
}
"""The one key of an untyped part (Gemini, Bedrock) -> the same for the object under it."""


def read_part(item: Any) -> Part:
    """`item` as a part; nulls are dropped, arguments that are JSON text are parsed."""
    if not isinstance(item, dict):
        return {"type": "text", "content": item if isinstance(item, str) else str(item)}
    kind = item.get("type")
    if kind == "text" and isinstance(item.get("content"), str):
        return prune(item)
    if isinstance(kind, str) and kind in TYPED:
        return _told(item, *TYPED[kind])
    if kind is None:
        for key, told in KEYED.items():
            inner = item.get(key)
            if isinstance(inner, dict):
                return _told(inner, *told)
        if isinstance(item.get("text"), str):
            return {"type": "reasoning" if item.get("thought") is True else "text", "content": item["text"]}
    return prune(item)


def tool_call(item: dict[str, Any]) -> Part:
    """A member of a `tool_calls` list: OpenAI's with a `function` inside, or a flat one."""
    function = item.get("function")
    source = function if isinstance(function, dict) else item
    return _told({"id": item.get("id"), **source}, *TYPED["tool_call"])


def tool_response(call_id: Any, content: Any) -> Part:
    """What a tool answered; without an id where none is told."""
    told = {} if call_id is None else {"id": call_id}
    return {"type": "tool_call_response", **told, "response": _plain(prune(parsed(content)))}


def prune(value: Any) -> Any:
    """`value` without null members of objects."""
    if isinstance(value, dict):
        return {key: prune(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [prune(inner) for inner in value]
    return value


def _told(item: dict[str, Any], kind: str, fields: Mapping[str, tuple[str, ...]]) -> Part:
    part: Part = {"type": kind}
    for name, paths in fields.items():
        value = next((found for path in paths if (found := _at(item, path)) is not None), None)
        if value is not None:
            part[name] = prune(value)
    if kind == "tool_call":
        part["arguments"] = prune(parsed(part.get("arguments", {})))
    elif kind == "tool_call_response":
        part["response"] = _plain(part.get("response"))
    elif kind == "text" and isinstance(part.get("content"), list):
        part["content"] = _joined(part["content"])  # OpenLIT: blocks of text where a text belongs
    elif kind == "reasoning" and not isinstance(part.get("content"), str):
        part["content"] = _joined(part.get("content"))
    elif kind == "uri" and "modality" in fields:
        part["modality"] = "image"
    return part


def _plain(response: Any) -> Any:
    """A tool's answer without the wrapping of frameworks: `[{type: text, text}]`, `{type: json, value}`."""
    if isinstance(response, dict) and set(response) == {"type", "value"}:
        return response["value"]
    if isinstance(response, list) and response and all(isinstance(p, dict) and "text" in p for p in response):
        return parsed("\n".join(str(part["text"]) for part in response))
    return response


def _joined(value: Any) -> str:
    pieces = value if isinstance(value, list) else []
    return "\n".join(str(piece["text"]) for piece in pieces if isinstance(piece, dict) and piece.get("text"))


def _at(item: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(item, dict):
            return None
        item = item.get(key)
    return item
