"""Preview: one line of what was asked and answered, for lists, out of a span's messages or texts."""

from __future__ import annotations

from typing import Any

LENGTH = 200
"""Characters of a preview."""

_READ = 4 * LENGTH
_ENOUGH = LENGTH + LENGTH // 2
"""Characters that usually make a whole preview: indented or wrapped text loses some."""


def asked(messages: Any, text: str) -> str:
    """The last user message of a list of messages, else its last text, else `text`; "" where there is none."""
    last = ""
    for message in reversed(messages) if isinstance(messages, list) else ():
        if not last or _role(message) == "user":
            found = _text(message, backwards=True)
            if found and _role(message) == "user":
                return line(found)
            last = last or found
    return line(last or text)


def answered(messages: Any, text: str) -> str:
    """The first text of a list of messages, else `text`; "" where there is none."""
    for message in messages if isinstance(messages, list) else ():
        found = _text(message)
        if found:
            return line(found)
    return line(text)


def line(text: str) -> str:
    """The beginning of a text as one line of at most `LENGTH` characters."""
    found = text[: LENGTH + 1]
    if not found.isprintable() or "  " in found or found[:1] == " " or found[-1:] == " ":  # all but plain prose
        found = " ".join(text[:_ENOUGH].split())
        if len(found) <= LENGTH and len(text) > _ENOUGH:
            found = " ".join(text[:_READ].split())
    return found if len(found) <= LENGTH else found[: LENGTH - 1] + "…"


def _role(message: Any) -> str:
    return str(message.get("role", "")) if isinstance(message, dict) else ""


def _text(message: Any, *, backwards: bool = False) -> str:
    """The first or last text in a message; "" where there is none."""
    parts = message.get("parts") if isinstance(message, dict) else None
    if not isinstance(parts, list):
        return ""
    for part in reversed(parts) if backwards else parts:
        if isinstance(part, dict) and part.get("type", "text") == "text":
            content = part.get("content")
            if isinstance(content, str) and content and not content.isspace():
                return content
    return ""
