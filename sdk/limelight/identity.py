"""Who and under which prompt: values that every span started below carries, across asyncio tasks by contextvars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from limelight import semconv
from limelight.content import Content
from limelight.guard import quiet

_values: ContextVar[Mapping[str, Any] | None] = ContextVar("limelight_context", default=None)


class context:  # noqa: N801  `with limelight.context(...)` reads as the block it opens
    """`with limelight.context(session_id=…):` sets session, user, tags, metadata, prompt on every span started inside.

    Inner blocks add to outer ones: tags are joined, metadata is merged, the rest is replaced. A thread started inside
    sees the values only if it runs in a copy of the context (`contextvars.copy_context().run`).
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
            self._outer = _values.get()
            self._inner = _merged(self._outer or {}, self._given)
            _values.set(self._inner)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # set back rather than reset by token: a generator may be closed in another context
        if _values.get() is self._inner:
            _values.set(self._outer)


def _merged(outer: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**outer, **{name: value for name, value in given.items() if value is not None}}
    if given[semconv.TAGS] is not None:
        tags = given[semconv.TAGS]
        named = [tags] if isinstance(tags, str) else [str(tag) for tag in tags]
        merged[semconv.TAGS] = [*dict.fromkeys([*outer.get(semconv.TAGS, ()), *named])]
    if given[semconv.METADATA] is not None:
        merged[semconv.METADATA] = {**outer.get(semconv.METADATA, {}), **dict(given[semconv.METADATA])}
    return merged


def attributes() -> dict[str, Any]:
    """The current values as span attributes; empty outside any block."""
    values = _values.get()
    if not values:
        return {}
    return {name: _attribute(value) for name, value in values.items()}


def _attribute(value: Any) -> Any:
    if isinstance(value, dict):
        return _PLAIN.json(value)
    return value if isinstance(value, list) else str(value)


_PLAIN = Content()
