"""OpenAI's library (1.60 to 3.x): chat completions, responses, embeddings, and every server that speaks them.

A raw response is read from its bytes, never parsed through the user's object; a streaming response is left alone.
"""

from __future__ import annotations

import functools
import importlib
import json
from types import ModuleType
from typing import TYPE_CHECKING, Any

from limelight import semconv
from limelight.around import Operation, wrap
from limelight.call import Call, Recorder, model_call
from limelight.content import field
from limelight.providers import openai_answers as answers
from limelight.providers import openai_messages as messages
from limelight.providers.hosts import Server, provider_of, server_of
from limelight.providers.openai_streams import ChatChunks, ResponseEvents
from limelight.stream import follow, follow_async

if TYPE_CHECKING:
    from limelight.patch import Patches

_RAW = "x-stainless-raw-response"
_REFUSE_STREAM_OPTIONS = frozenset({"mistral_ai"})  # rejects unknown fields, and sends usage on streams anyway


def _server(resource: Any) -> tuple[str, int | None, str]:
    """(host, port, provider) of a resource's client, or of an address; port None where it is the scheme's own."""
    host, port = server_of(resource if isinstance(resource, Server) else resource._client)  # noqa: SLF001  no public way
    return host, port, provider_of(host, port)


def _given(value: Any) -> Any:
    """The value, or None for the library's "not given" marks."""
    return None if type(value).__name__ in {"NotGiven", "Omit"} else value


def _start(
    recorder: Recorder, resource: Any, operation: str, kwargs: dict[str, Any], attributes: dict[str, Any]
) -> Call:
    host, port, provider = _server(resource)
    tier = _given(kwargs.get("service_tier"))
    attributes = {
        semconv.PROVIDER_NAME: provider,
        semconv.SERVER_ADDRESS: host,
        semconv.SERVER_PORT: port if port is not None else 443,
        semconv.OPENAI_REQUEST_SERVICE_TIER: None if tier == "auto" else tier,
        **attributes,
    }
    model = _given(kwargs.get("model"))
    return model_call(recorder, operation, None if model is None else str(model), attributes)


def _number(value: Any) -> float | None:
    value = _given(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _strings(value: Any) -> list[str] | None:
    value = _given(value)
    return [value] if isinstance(value, str) else [str(item) for item in value] if value else None


def _start_chat(recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    choices = _number(kwargs.get("n"))
    limit = _number(kwargs.get("max_completion_tokens"))
    attributes = {
        semconv.OPENAI_API_TYPE: "chat_completions",
        semconv.REQUEST_STREAM: True if _given(kwargs.get("stream")) else None,
        semconv.REQUEST_MAX_TOKENS: _number(kwargs.get("max_tokens")) if limit is None else limit,
        semconv.REQUEST_TEMPERATURE: _number(kwargs.get("temperature")),
        semconv.REQUEST_TOP_P: _number(kwargs.get("top_p")),
        semconv.REQUEST_SEED: _number(kwargs.get("seed")),
        semconv.REQUEST_FREQUENCY_PENALTY: _number(kwargs.get("frequency_penalty")),
        semconv.REQUEST_PRESENCE_PENALTY: _number(kwargs.get("presence_penalty")),
        semconv.REQUEST_STOP_SEQUENCES: _strings(kwargs.get("stop")),
        semconv.REQUEST_CHOICE_COUNT: None if choices == 1 else choices,
        semconv.REQUEST_REASONING_LEVEL: _given(kwargs.get("reasoning_effort")),
        semconv.OUTPUT_TYPE: messages.output_type(_given(kwargs.get("response_format"))),
    }
    call = _start(recorder, resource, "chat", kwargs, attributes)
    if call.records_content:
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_chat(_given(kwargs.get("messages")) or []))
        call.set_value(semconv.TOOL_DEFINITIONS, _given(kwargs.get("tools")) or None, as_json=True)
    return call


def _start_response(recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    conversation = _given(kwargs.get("conversation"))
    attributes = {
        semconv.OPENAI_API_TYPE: "responses",
        semconv.REQUEST_STREAM: True if _given(kwargs.get("stream")) else None,
        semconv.REQUEST_MAX_TOKENS: _number(kwargs.get("max_output_tokens")),
        semconv.REQUEST_TEMPERATURE: _number(kwargs.get("temperature")),
        semconv.REQUEST_TOP_P: _number(kwargs.get("top_p")),
        semconv.REQUEST_PREVIOUS_RESPONSE_ID: _given(kwargs.get("previous_response_id")),
        semconv.CONVERSATION_ID: conversation if isinstance(conversation, str) else field(conversation, "id"),
        semconv.REQUEST_REASONING_LEVEL: field(_given(kwargs.get("reasoning")), "effort"),
        semconv.OUTPUT_TYPE: messages.output_type(field(_given(kwargs.get("text")), "format")),
    }
    call = _start(recorder, resource, "chat", kwargs, attributes)
    if call.records_content:
        instructions = _given(kwargs.get("instructions"))
        if isinstance(instructions, str):
            call.set_messages(semconv.SYSTEM_INSTRUCTIONS, [{"type": "text", "content": instructions}])
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_items(_given(kwargs.get("input"))))
        call.set_value(semconv.TOOL_DEFINITIONS, _given(kwargs.get("tools")) or None, as_json=True)
    return call


def _start_embedding(recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    encoding = _given(kwargs.get("encoding_format"))
    attributes = {
        semconv.EMBEDDINGS_DIMENSION_COUNT: _number(kwargs.get("dimensions")),
        semconv.REQUEST_ENCODING_FORMATS: None if encoding is None else [str(encoding)],
    }
    call = _start(recorder, resource, "embeddings", kwargs, attributes)
    if call.records_content:
        call.set_value(semconv.LIMELIGHT_INPUT, _given(kwargs.get("input")))
    return call


def _raw_mode(kwargs: dict[str, Any]) -> str | None:
    """`true` or `raw`, or `stream`, where the call comes through `.with_raw_response` or `.with_streaming_response`."""
    headers = _given(kwargs.get("extra_headers")) or {}
    return next((str(value) for name, value in headers.items() if str(name).lower() == _RAW), None)


def _finish(read: Any, chunks: Any, call: Call, result: Any, kwargs: dict[str, Any], asked: bool) -> None:
    raw = _raw_mode(kwargs)
    streams = bool(_given(kwargs.get("stream")))
    if raw is None and streams and chunks is not None and hasattr(result, "_iterator"):
        attend = follow_async if hasattr(result, "__anext__") else follow
        attend(result, result.response, call, chunks(call.records_content), hide_usage=asked)
        return
    if raw not in {None, "stream"} and not streams:
        read(call, json.loads(result.http_response.content))
    elif raw is None and not streams:
        read(call, result)
    call.stop()


def _ask_usage(recorder: Recorder, resource: Any, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Add `stream_options.include_usage` where the user left it open; otherwise leave the call as it is."""
    options = _given(kwargs.get("stream_options")) or {}
    wanted = recorder.ask_stream_usage and _given(kwargs.get("stream")) is True and _raw_mode(kwargs) is None
    if not wanted or "include_usage" in options or _server(resource)[2] in _REFUSE_STREAM_OPTIONS:
        return None
    return {**kwargs, "stream_options": {**options, "include_usage": True}}


def _operation(start: Any, read: Any, chunks: Any = None, amend: Any = None) -> Operation:
    return Operation("openai", start, functools.partial(_finish, read, chunks), amend)


_CHAT = _operation(_start_chat, answers.read_chat, ChatChunks, _ask_usage)
_RESOURCES = (
    ("chat.completions", ("Completions", "AsyncCompletions"), _CHAT),
    ("beta.chat.completions", ("Completions", "AsyncCompletions"), _CHAT),  # where `parse` was before 1.92
    ("responses", ("Responses", "AsyncResponses"), _operation(_start_response, answers.read_response, ResponseEvents)),
    ("embeddings", ("Embeddings", "AsyncEmbeddings"), _operation(_start_embedding, answers.read_embedding)),
)


HTTP = {
    "chat": (_start_chat, answers.read_chat, ChatChunks),
    "responses": (_start_response, answers.read_response, ResponseEvents),
    "embeddings": (_start_embedding, answers.read_embedding, None),
}
"""The same three over plain HTTP: what starts the call (of a `Server` and a body), reads the answer, takes chunks."""


def instrument(patches: Patches, _module: ModuleType) -> None:
    """Wrap `create` and `parse` of the three resources, synchronous and asynchronous, where the version has them."""
    for module, owners, operation in _RESOURCES:
        try:
            resource = importlib.import_module(f"openai.resources.{module}")
        except ImportError:  # responses came with 1.66
            continue
        for owner in owners:
            for name in ("create", "parse"):
                patches.replace(getattr(resource, owner), name, functools.partial(wrap, operation=operation))
