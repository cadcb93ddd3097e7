"""Triton's `/generate` and `/generate_stream`, called over plain HTTP: bodies and events to fields.

The request names its tensors flat, and may nest more under `parameters`; a stream is server-sent events, which may say
`error` after a 200.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from limelight import semconv
from limelight.call import Call, Recorder, model_call
from limelight.providers import tritonclient_fields as fields
from limelight.values import word

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/(generate|generate_stream)$")


@dataclass(frozen=True, slots=True)
class Target:
    """What a path asks for."""

    model: str
    version: str | None
    is_stream: bool


def target(path: str) -> Target | None:
    """The target of a URL's path (also below a prefix), or None where it is no generate request."""
    found = _PATH.search(path)
    if found is None:
        return None
    model, version, verb = found.groups()
    return Target(urllib.parse.unquote(model), version, verb == "generate_stream")


def values_of(body: Any, names: fields.Names) -> fields.Values:
    """The wanted values of a request or an answer; those under `parameters` count where the body itself has none."""
    if not isinstance(body, Mapping):
        return {}
    body = cast("Mapping[str, Any]", body)
    nested = body.get("parameters")
    inner = fields.flat(cast("Mapping[str, Any]", nested), names) if isinstance(nested, Mapping) else {}
    return fields.with_sampling({**inner, **fields.flat(body, names)}, names)


def start(recorder: Recorder, asked: Target, body: Any, attributes: dict[str, Any]) -> Call:
    """Start the span of a request; `attributes` are what the HTTP client knows (`server.address`, `server.port`)."""
    call = model_call(recorder, fields.OPERATION, asked.model, {**request_fields(recorder, asked, body), **attributes})
    if call.records_content:
        call.set_messages(semconv.INPUT_MESSAGES, input_messages(recorder, body))
    return call


def request_fields(recorder: Recorder, asked: Target, body: Any) -> dict[str, Any]:
    """Attributes of a request, None where unknown."""
    names = fields.names_of(recorder.triton_tensors)
    found = fields.request_fields(values_of(body, names), names)
    return {
        **found,
        semconv.PROVIDER_NAME: fields.PROVIDER,
        semconv.REQUEST_STREAM: True if asked.is_stream else None,
        semconv.REQUEST_ID: word(cast("Mapping[str, Any]", body).get("id")) if isinstance(body, Mapping) else None,
        semconv.TRITON_MODEL_VERSION: asked.version,
    }


def input_messages(recorder: Recorder, body: Any) -> list[dict[str, Any]]:
    """The prompts of a request as messages."""
    names = fields.names_of(recorder.triton_tensors)
    return fields.input_messages(values_of(body, names), names)


class Chunks:
    """The events of `/generate_stream`, as parsed JSON; also the one answer of `/generate`, added like an event."""

    def __init__(self, recorder: Recorder, asked: Target, body: Any, keep_content: bool) -> None:
        self._names = fields.names_of(recorder.triton_tensors)
        request = values_of(body, self._names)
        self._answers = fields.Answers(self._names, keep_content, request, asked.model, language=True)
        self._error: str | None = None

    def add(self, chunk: Any) -> bool:
        """Take one event; True where it carries text."""
        if not isinstance(chunk, Mapping):
            return False
        chunk = cast("Mapping[str, Any]", chunk)
        if "error" in chunk:
            self._error = word(chunk["error"]) or "error"
            return False
        self._answers.head(word(chunk.get("model_name")), word(chunk.get("model_version")))
        values = fields.flat(chunk, self._names)
        return self._answers.take(values, has_outputs=False)

    def fill(self, call: Call) -> None:
        """Write what has come; an error inside a 200 fails the span."""
        self._answers.fill(call)
        if self._error is not None:
            call.refuse("error", self._error)


def read_answer(call: Call, recorder: Recorder, asked: Target, body: Any, answer: Any) -> None:
    """Write the whole answer of `/generate` to the call; `body` is the request's."""
    chunks = Chunks(recorder, asked, body, call.records_content)
    chunks.add(answer)
    chunks.fill(call)
