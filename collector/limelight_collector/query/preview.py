"""One line of what was asked and answered, for lists: the last user message, the first answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

LENGTH = 200
"""Characters of a preview."""


def input_preview(messages: str, text: str) -> str | None:
    """The last user message of a JSON list of messages, else its last text, else `text`; null where there is none."""
    found = _texts(messages)
    from_user = [content for role, content in found if role == "user"]
    return _short((from_user or [content for _, content in found] or [text])[-1])


def output_preview(messages: str, text: str) -> str | None:
    """The first text of a JSON list of messages, else `text`; null where there is none."""
    return _short(([content for _, content in _texts(messages)] or [text])[0])


def _short(text: str) -> str | None:
    line = " ".join(text[: 4 * LENGTH].split())
    return (line if len(line) <= LENGTH else line[: LENGTH - 1] + "…") or None


def _texts(messages: str) -> list[tuple[str, str]]:
    try:
        decoded: Any = json.loads(messages) if messages else []
    except ValueError:
        return []
    return list(_parts(decoded))


def _parts(messages: Any) -> Iterator[tuple[str, str]]:
    for message in _dicts(messages):
        for part in _dicts(message.get("parts")):
            content = part.get("content")
            if part.get("type", "text") == "text" and isinstance(content, str) and content.strip():
                yield str(message.get("role", "")), content


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", item) for item in value if isinstance(item, dict)] if isinstance(value, list) else []
