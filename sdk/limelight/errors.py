"""What a span says of an exception: class, message and stack, with no more of other people's code run than needs be.

`str(error)` may print what the program holds: pydantic's errors print the values that did not fit, a KeyError its key.
"""

from __future__ import annotations

import traceback
from typing import Any

from limelight.values import items, word

STACK_CHARS = 16_384
"""How much of a stack's end is kept, before anything is redacted in it."""
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
_MAX_CHAIN = 8
_BECAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"


def class_name(error: BaseException) -> str:
    """`openai.RateLimitError`: module and class, without private modules in between; builtins bare."""
    kind = type(error)
    modules = [part for part in kind.__module__.split(".") if not part.startswith("_")]
    return kind.__qualname__ if kind.__module__ == "builtins" else ".".join([*modules, kind.__qualname__])


def message(error: BaseException) -> str:
    """What an exception says: what its class prints where it was made of plain values, or prints in its own way."""
    kind = type(error)
    try:
        if kind.__name__ == "ValidationError" and hasattr(kind, "errors"):
            return _unfit(error)
        if all(map(_is_plain, error.args)) or kind.__str__ not in _BUILT_IN:
            return str(error)
        return ", ".join(text for argument in error.args if (text := word(argument)) is not None)
    except Exception:  # its `__str__` is broken, which `traceback` expects too
        return ""


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) is tuple and all(type(item) in _PLAIN for item in value))


_BUILT_IN = frozenset({kind.__str__ for kind in (BaseException, KeyError, OSError, ImportError, SyntaxError)})


def _unfit(error: Any) -> str:
    """Pydantic's: the places and what is wrong there; the values themselves are the program's."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [f"{'.'.join(map(str, items(one['loc'])))}: {one['msg']}" for one in found[:20]]
    return "\n".join([f"{error.error_count()} validation errors for {error.title}", *lines])


def stack(error: BaseException) -> str:
    """The end of what the interpreter would print of an exception and those that led to it."""
    parts: list[str] = []
    current: BaseException | None = error
    for _ in range(_MAX_CHAIN):
        if current is None:
            break
        frames = traceback.format_tb(current.__traceback__)
        told = message(current)
        head = "Traceback (most recent call last):\n" if frames else ""
        name = class_name(current)
        parts.append(f"{head}{''.join(frames)}{name}: {told}\n" if told else f"{head}{''.join(frames)}{name}\n")
        cause = current.__cause__
        current = cause if cause is not None or current.__suppress_context__ else current.__context__
        parts.append("" if current is None else _DURING if cause is None else _BECAUSE)
    return "".join(reversed(parts))[-STACK_CHARS:]
