"""Python functions that users give as tools."""

from __future__ import annotations

import inspect
import types
from typing import Any

from limelight.values import is_a, word

_ROUTINES = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def described(tool: Any) -> dict[str, Any] | None:
    """Name and description (its docstring) of a function or method; None for a tool of any other kind."""
    if not is_a(tool, _ROUTINES):
        return None
    doc = word(tool.__doc__)
    return {"name": word(tool.__name__), "description": None if doc is None else inspect.cleandoc(doc)}
