"""Google's contents and parts to semconv messages, as users give them (text, parts, dicts, files) and as they return.

Dicts may use either spelling of a name, `inline_data` or `inlineData`: the library takes both.
"""

from __future__ import annotations

from typing import Any

from limelight.content import blob, blob_of_base64
from limelight.providers.functions import described
from limelight.values import choice, field, is_a, items, word

Message = dict[str, Any]
Part = dict[str, Any]


def named(value: Any, name: str) -> Any:
    """A field by its name, in a dict also by its JSON name."""
    found = field(value, name)
    if found is None and is_a(value, dict) and "_" in name:
        head, *rest = name.split("_")
        return field(value, head + "".join(piece.capitalize() for piece in rest))
    return found


def value_of(value: Any) -> str | None:
    """The word of an enum or a string, as the provider spells it."""
    return word(choice(value))


def of_instruction(instruction: Any) -> list[Part]:
    """The parts of a `system_instruction`."""
    return [part for message in of_contents(instruction) for part in message["parts"]]


def of_contents(contents: Any) -> list[Message]:
    """The `contents` argument: text, parts, contents, or a list of these; parts in a row are one user message."""
    messages: list[Message] = []
    loose: list[Part] = []
    for item in items(contents) if _is_list(contents) else [contents]:
        if item is not None and not _is_content(item) and not _is_list(item):
            loose.append(_part(item))
            continue
        if loose:
            messages.append({"role": "user", "parts": loose})
            loose = []
        if _is_list(item):
            messages.append({"role": "user", "parts": [_part(part) for part in items(item)]})
        elif item is not None:
            messages.append(_message(item))
    return [*messages, {"role": "user", "parts": loose}] if loose else messages


def _is_list(value: Any) -> bool:
    return is_a(value, (list, tuple))


def _is_content(item: Any) -> bool:
    return _is_list(named(item, "parts"))


def _message(content: Any) -> Message:
    parts = [_part(part) for part in items(named(content, "parts"))]
    role = word(named(content, "role")) or "user"
    if parts and all(part["type"] == "tool_call_response" for part in parts):
        role = "tool"
    return {"role": "assistant" if role == "model" else role, "parts": parts}


def answer(parts: list[Any], finish_reason: str) -> Message:
    """One candidate's message; pieces of text that follow each other, as streams send them, become one."""
    joined: list[Part] = []
    for part in map(_part, parts):
        last = joined[-1] if joined else None
        if last is not None and part["type"] == last["type"] in {"text", "reasoning"}:
            last["content"] += part["content"]
        else:
            joined.append(part)
    return {"role": "assistant", "parts": joined, "finish_reason": finish_reason}


def of_embedded(contents: Any) -> Any:
    """What was embedded: one text, or a list of texts and parts."""
    parts = [part for message in of_contents(contents) for part in message["parts"]]
    texts = [part["content"] if part["type"] == "text" else part for part in parts]
    return texts[0] if len(texts) == 1 else texts or None


def is_content(part: Any) -> bool:
    """Whether a part says something: streams also send parts with empty text, or a signature alone."""
    return bool(word(named(part, "text"))) or any(named(part, name) is not None for name in _KINDS)


def _part(part: Any) -> Part:
    text = word(part)
    if text is not None:
        return {"type": "text", "content": text}
    text = word(named(part, "text"))
    if text is not None:
        return {"type": "reasoning" if named(part, "thought") is True else "text", "content": text}
    for name, read in _KINDS.items():
        value = named(part, name)
        if value is not None:
            return read(value)
    uri = word(named(part, "uri")) or word(named(part, "file_uri"))
    return _reference(part, uri) if uri else {"type": "custom", "content": part}


def _reference(file: Any, uri: str | None) -> Part:
    mime_type = word(named(file, "mime_type"))
    return {"type": "uri", "uri": uri, "mime_type": mime_type, "modality": _modality(mime_type)}


def _modality(mime_type: str | None) -> str:
    kind = (mime_type or "").partition("/")[0]
    return kind if kind in {"image", "audio", "video"} else "file"


def _inline(data: Any) -> Part:
    mime_type = word(named(data, "mime_type")) or "application/octet-stream"
    held = named(data, "data")
    kept = blob(mime_type, held) if type(held) is bytes else blob_of_base64(mime_type, word(held) or "")
    return {**kept, "modality": _modality(mime_type)}


def _function_call(call: Any) -> Part:
    return {"type": "tool_call", "id": named(call, "id"), "name": named(call, "name"), "arguments": named(call, "args")}


def _function_response(response: Any) -> Part:
    given = {"id": named(response, "id"), "name": named(response, "name"), "response": named(response, "response")}
    return {"type": "tool_call_response", **given}


def _executable_code(code: Any) -> Part:
    details = {"type": "code_execution", "code": named(code, "code"), "language": value_of(named(code, "language"))}
    return {"type": "server_tool_call", "id": named(code, "id"), "name": "code_execution", "server_tool_call": details}


def _code_result(result: Any) -> Part:
    outcome = value_of(named(result, "outcome"))
    details = {"type": "code_execution", "outcome": outcome, "output": named(result, "output")}
    return {"type": "server_tool_call_response", "id": named(result, "id"), "server_tool_call_response": details}


_KINDS = {
    "inline_data": _inline,
    "file_data": lambda data: _reference(data, word(named(data, "file_uri"))),
    "function_call": _function_call,
    "function_response": _function_response,
    "executable_code": _executable_code,
    "code_execution_result": _code_result,
    "tool_call": lambda call: {"type": "server_tool_call", "id": named(call, "id"), "server_tool_call": call},
    "tool_response": lambda answer: {"type": "server_tool_call_response", "server_tool_call_response": answer},
}


def of_tools(tools: Any) -> list[Any]:
    """Definitions: declared functions one by one, Python functions by name and docstring, other tools as they are."""
    found: list[Any] = []
    for tool in items(tools):
        declared = items(named(tool, "function_declarations"))
        function = described(tool)
        if function is not None:
            found.append({"type": "function", **function})
        elif declared:
            found += [_declaration(function) for function in declared]
        else:
            found.append(tool)
    return found


def _declaration(function: Any) -> dict[str, Any]:
    schema = named(function, "parameters_json_schema")
    parameters = named(function, "parameters") if schema is None else schema
    described = {"name": named(function, "name"), "description": named(function, "description")}
    return {"type": "function", **described, "parameters": parameters}
