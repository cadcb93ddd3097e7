"""Who and under which prompt: values that every span started below carries.

They live in the OpenTelemetry context, beside the current span: whatever carries that carries both. With `baggage=True`
they also cross processes as W3C baggage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.baggage.propagation import W3CBaggagePropagator

from limelight import semconv
from limelight.content import Content, attribute
from limelight.guard import quiet
from limelight.values import is_a

_KEY = otel_context.create_key("limelight-identity")
_PLAIN = Content()
_IN_BAGGAGE = (semconv.SESSION_ID, semconv.USER_ID, semconv.PROMPT_NAME, semconv.PROMPT_VERSION)


class context:  # noqa: N801  `with limelight.context(...)` reads as the block it opens
    """`with limelight.context(session_id=…):` sets session, user, tags, metadata, prompt on every span started inside.

    Inner blocks add to outer ones: tags are joined, metadata is merged, the rest is replaced. Tasks and, with the
    provider `threads`, threads started inside see the values too; for processes there is `limelight.carry`.
    """

    def __init__(
        self,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        prompt_name: str | None = None,
        prompt_version: str | int | None = None,
        environment: str | None = None,
    ) -> None:
        self._given: dict[str, Any] = {
            semconv.SESSION_ID: session_id,
            semconv.USER_ID: user_id,
            semconv.TAGS: tags,
            semconv.METADATA: metadata,
            semconv.PROMPT_NAME: prompt_name,
            semconv.PROMPT_VERSION: prompt_version,
            semconv.DEPLOYMENT_ENVIRONMENT_NAME: environment,
        }
        self._outer: Mapping[str, Any] | None = None
        self._inner: Mapping[str, Any] | None = None

    def __enter__(self) -> context:  # noqa: PYI034  typing.Self is 3.11
        with quiet("entering a context"):
            self._outer = _own(None)
            self._inner = _merged(self._outer or {}, self._given)
            otel_context.attach(otel_context.set_value(_KEY, self._inner))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # set back rather than detached by token: a generator may be closed in another context
        with quiet("leaving a context"):
            if self._inner is not None and _own(None) is self._inner:
                otel_context.attach(otel_context.set_value(_KEY, self._outer))


def _own(where: otel_context.Context | None) -> Mapping[str, Any] | None:
    """What the blocks around set."""
    found: Any = otel_context.get_value(_KEY, where)
    return found


def _merged(outer: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**outer, **{name: value for name, value in given.items() if value is not None}}
    tags, metadata = given.get(semconv.TAGS), given.get(semconv.METADATA)
    if tags is not None:
        merged[semconv.TAGS] = [*dict.fromkeys([*outer.get(semconv.TAGS, ()), *_tags(tags)])]
    if metadata is not None:
        merged[semconv.METADATA] = {**outer.get(semconv.METADATA, {})}
        with quiet("reading metadata"):
            merged[semconv.METADATA].update(metadata)
    return merged


def _tags(given: Any) -> list[str]:
    if is_a(given, (set, frozenset)):
        return sorted(str(attribute(tag)) for tag in given)
    known = attribute(given)
    return [str(tag) for tag in known] if isinstance(known, list) else [str(known)]


def attributes(where: otel_context.Context | None = None, *, with_baggage: bool = False) -> dict[str, Any]:
    """The values in a context (default: the current one) as span attributes; empty outside any block.

    `with_baggage` adds what came in as W3C baggage; what is set in this process goes first.
    """
    values = _own(where) or {}
    if with_baggage:
        values = _merged(_received(where), values)
    return {name: _attribute(value) for name, value in values.items()} if values else {}


def _attribute(value: Any) -> Any:
    known = attribute(value)
    return known if isinstance(known, (str, list)) or known is None else str(known)


# -- across processes --------------------------------------------------------------------------------------------------
def _received(where: otel_context.Context | None) -> dict[str, Any]:
    entries = baggage.get_all(where)
    values: dict[str, Any] = {name: str(entries[name]) for name in _IN_BAGGAGE if entries.get(name)}
    try:
        tags = json.loads(str(entries.get(semconv.TAGS, "[]")))
    except (ValueError, RecursionError):
        tags = []
    if isinstance(tags, list) and tags:
        values[semconv.TAGS] = [tag for tag in tags if isinstance(tag, str)]
    return values


def baggage_headers() -> dict[str, str]:
    """The `baggage` header of session, user, tags and prompt, received ones included; empty where there are none."""
    values = _merged(_received(None), _own(None) or {})
    carrying = otel_context.Context()  # an application's own baggage is not ours to send
    for name in _IN_BAGGAGE:
        if name in values:
            carrying = baggage.set_baggage(name, str(attribute(values[name])), carrying)
    if values.get(semconv.TAGS):
        carrying = baggage.set_baggage(semconv.TAGS, json.dumps(values[semconv.TAGS]), carrying)
    headers: dict[str, str] = {}
    W3CBaggagePropagator().inject(headers, carrying)
    return headers


def snapshot() -> dict[str, Any] | None:
    """The values set in this process, of plain types alone, to be set elsewhere by `restored`."""
    values = _own(None)
    return None if not values else json.loads(_PLAIN.json(dict(values)))


def restored(values: Mapping[str, Any] | None, where: otel_context.Context) -> otel_context.Context:
    """`where` with the values of a `snapshot`."""
    return where if values is None else otel_context.set_value(_KEY, values, where)
