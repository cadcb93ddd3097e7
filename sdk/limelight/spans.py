"""`span`: a block of the user's own as a span, by kind; and what a kind makes of input and output."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from opentelemetry.trace import format_span_id, format_trace_id

from limelight import call as calls
from limelight import semconv
from limelight.call import Call
from limelight.content import attribute
from limelight.guard import quiet
from limelight.values import field, is_a, items, word

_OPERATIONS: dict[str, tuple[str, str | None]] = {
    "tool": ("execute_tool", semconv.TOOL_NAME),
    "retriever": ("retrieval", None),
    "agent": ("invoke_agent", semconv.AGENT_NAME),
    "workflow": ("invoke_workflow", semconv.WORKFLOW_NAME),
}
"""Kind -> the semconv operation it is and the attribute that holds its name; other kinds become `limelight.kind`."""


def start(name: str, kind: str | None) -> Call | None:
    """Start the span of a step of that kind; None where the SDK is off."""
    recorder = calls.installed()
    if recorder is None:
        return None
    name, kind = word(name) or "span", word(kind)
    operation, name_attribute = _OPERATIONS.get(kind or "", (None, None))
    attributes: dict[str, Any] = {semconv.OPERATION_NAME: operation}
    if operation is None:
        attributes[semconv.LIMELIGHT_KIND] = None if kind == "span" else kind
    if name_attribute is not None:
        attributes[name_attribute] = name
    return Call.start(recorder, f"{operation} {name}" if operation else name, attributes)


def set_input(call: Call, kind: str | None, value: Any) -> None:
    """Record what went into a step, under the name its kind has for it."""
    if kind == "tool":
        call.set_value(semconv.TOOL_CALL_ARGUMENTS, value)
    elif kind == "retriever" and (query := _query(value)) is not None:
        call.set_value(semconv.RETRIEVAL_QUERY_TEXT, query)
    else:
        call.set_value(semconv.LIMELIGHT_INPUT, value)


def set_output(call: Call, kind: str | None, value: Any) -> None:
    """Record what came of a step, under the name its kind has for it."""
    if kind == "tool":
        call.set_value(semconv.TOOL_CALL_RESULT, value)
    elif kind == "retriever" and (documents := _documents(value)) is not None:
        call.set_value(semconv.RETRIEVAL_DOCUMENTS, documents, as_json=True)
    else:
        call.set_value(semconv.LIMELIGHT_OUTPUT, value)


def _query(value: Any) -> str | None:
    """The query of a retriever: the text itself, its `query` argument, or its only text argument."""
    text = word(value) or word(field(value, "query"))
    if text is not None or type(value) is not dict:
        return text
    texts = [found for item in value.values() if (found := word(item)) is not None]
    return texts[0] if len(texts) == 1 else None


def _documents(value: Any) -> list[Any] | None:
    """A list of documents, texts becoming `{"content": text}`; None where the value is no such list."""
    found = items(value)
    if not is_a(value, (list, tuple)) or not all(is_a(item, (dict, str)) for item in found):
        return None
    return [item if (text := word(item)) is None else {"content": text} for item in found]


class span:  # noqa: N801  `with limelight.span(...)` reads as the block it opens
    """`with limelight.span(name, kind="retriever") as s:` one block as a span; an exception fails it, and passes."""

    def __init__(self, name: str, kind: str | None = None) -> None:
        self._name = name
        self._kind = kind
        self._call: Call | None = None

    def __enter__(self) -> span:  # noqa: PYI034  typing.Self is 3.11
        with quiet("entering a span"):
            self._call = start(self._name, self._kind)
            if self._call is not None:
                self._call.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with quiet("ending a span"):
            if self._call is not None:
                self._call.leave()
                if error is None or isinstance(error, GeneratorExit):
                    self._call.stop()
                else:
                    self._call.fail(error)

    def set(self, *, input: Any = None, output: Any = None, **attributes: Any) -> span:  # noqa: A002  the public words
        """Record input, output (captured as content) and plain attributes; `a_b` stays `a_b`, use `**{"a.b": 1}`."""
        with quiet("setting span values"):
            if self._call is not None:
                if input is not None:
                    set_input(self._call, self._kind, input)
                if output is not None:
                    set_output(self._call, self._kind, output)
                for name, value in attributes.items():
                    with quiet("setting an attribute"):
                        self._call.set(name.encode("utf-8", "replace").decode(), attribute(value))
        return self

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits; empty where the SDK is off."""
        return "" if self._call is None else format_trace_id(self._call.span.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        """16 lower-case hex digits; empty where the SDK is off."""
        return "" if self._call is None else format_span_id(self._call.span.get_span_context().span_id)
