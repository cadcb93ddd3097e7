"""OpenAI's library (1.60 to 3.x): chat completions, completions, responses, embeddings, and every server like it.

A raw response is read from its bytes beside the user, never parsed through the user's object.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from limelight import semconv
from limelight.around import Operation, wrap
from limelight.call import Call, Recorder, model_call
from limelight.providers import openai_answers as answers
from limelight.providers import openai_messages as messages
from limelight.providers import stainless, vllm_server
from limelight.providers.hosts import Server, provider_of
from limelight.providers.openai_streams import ChatChunks, ResponseEvents
from limelight.providers.stainless import given
from limelight.values import count, field, items, number, word, words

if TYPE_CHECKING:
    from limelight.patch import Patches

_RAW = "x-stainless-raw-response"
_AZURE = "azure.ai.openai"
_REFUSE_STREAM_OPTIONS = frozenset({"mistral_ai"})  # rejects unknown fields, and sends usage on streams anyway
_AZURE_STREAM_OPTIONS = "2024-09-01"
"""The first API version of Azure that knows `stream_options`; older ones refuse it."""


def _client(resource: Any) -> Any:
    """A resource's client; an address stands for itself."""
    return resource if isinstance(resource, Server) else resource._client  # noqa: SLF001  no public way


def _provider(client: Any, host: str, port: int) -> str:
    return _cloud(type(client)) or provider_of(host, port)


@functools.lru_cache(maxsize=256)
def _cloud(kind: type) -> str | None:
    """The cloud that a class of clients is for."""
    names = {base.__name__ for base in kind.__mro__}
    if "BaseAzureClient" in names:
        return _AZURE
    return "aws.bedrock" if names & {"BedrockOpenAI", "AsyncBedrockOpenAI"} else None


def _model(client: Any, kwargs: dict[str, Any]) -> str | None:
    """The model asked for; on Azure the deployment in the client's address, which wins over the argument."""
    deployment = ""
    if _cloud(type(client)) == _AZURE:
        deployment = str(client.base_url.path).partition("/deployments/")[2].strip("/")
    return deployment or word(kwargs.get("model"))


def _start(
    recorder: Recorder, resource: Any, operation: str, kwargs: dict[str, Any], attributes: dict[str, Any]
) -> Call:
    client = _client(resource)
    host, port = stainless.address(client)
    tier = word(kwargs.get("service_tier"))
    model = _model(client, kwargs)
    attributes = {
        semconv.PROVIDER_NAME: "vllm" if vllm_server.is_known(host, port, model) else _provider(client, host, port),
        semconv.SERVER_ADDRESS: host,
        semconv.SERVER_PORT: port,
        semconv.REQUEST_STREAM: True if kwargs.get("stream") is True else None,
        semconv.OPENAI_REQUEST_SERVICE_TIER: None if tier == "auto" else tier,
        **attributes,
    }
    return model_call(recorder, operation, model, attributes)


def _choices(value: Any) -> int | None:
    """The convention leaves a single choice out."""
    choices = count(value)
    return None if choices == 1 else choices


_SAMPLING: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("max_tokens", semconv.REQUEST_MAX_TOKENS, number),
    ("temperature", semconv.REQUEST_TEMPERATURE, number),
    ("top_p", semconv.REQUEST_TOP_P, number),
    ("seed", semconv.REQUEST_SEED, number),
    ("frequency_penalty", semconv.REQUEST_FREQUENCY_PENALTY, number),
    ("presence_penalty", semconv.REQUEST_PRESENCE_PENALTY, number),
    ("stop", semconv.REQUEST_STOP_SEQUENCES, words),
    ("n", semconv.REQUEST_CHOICE_COUNT, _choices),
)


def _sampling(kwargs: dict[str, Any]) -> dict[str, Any]:
    """What chat completions and completions are asked for alike."""
    return {attribute: kind(kwargs[name]) for name, attribute, kind in _SAMPLING if name in kwargs}


def _start_chat(recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    attributes = {**_sampling(kwargs), semconv.OPENAI_API_TYPE: "chat_completions"}
    limit = number(kwargs.get("max_completion_tokens"))
    if limit is not None:
        attributes[semconv.REQUEST_MAX_TOKENS] = limit
    attributes[semconv.REQUEST_REASONING_LEVEL] = word(kwargs.get("reasoning_effort"))
    attributes[semconv.OUTPUT_TYPE] = messages.output_type(
        given(kwargs.get("response_format")), kwargs.get("modalities")
    )
    call = _start(recorder, resource, "chat", kwargs, attributes)
    if call.records_content:
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_chat(kwargs.get("messages")))
        call.set_value(semconv.TOOL_DEFINITIONS, items(kwargs.get("tools")) or None, as_json=True)
    return call


def _start_completion(recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    call = _start(recorder, resource, "text_completion", kwargs, _sampling(kwargs))
    if call.records_content:
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_prompt(kwargs.get("prompt")))
    return call


def _start_response(recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    conversation = given(kwargs.get("conversation"))
    text_format = given(kwargs.get("text_format"))
    if text_format is None:
        text_format = field(given(kwargs.get("text")), "format")
    attributes = {
        semconv.OPENAI_API_TYPE: "responses",
        semconv.REQUEST_MAX_TOKENS: number(kwargs.get("max_output_tokens")),
        semconv.REQUEST_TEMPERATURE: number(kwargs.get("temperature")),
        semconv.REQUEST_TOP_P: number(kwargs.get("top_p")),
        semconv.REQUEST_PREVIOUS_RESPONSE_ID: word(kwargs.get("previous_response_id")),
        semconv.CONVERSATION_ID: word(conversation) or word(field(conversation, "id")),
        semconv.REQUEST_REASONING_LEVEL: word(field(given(kwargs.get("reasoning")), "effort")),
        semconv.OUTPUT_TYPE: messages.output_type(text_format),
    }
    call = _start(recorder, resource, "chat", kwargs, attributes)
    if call.records_content:
        instructions = word(kwargs.get("instructions"))
        if instructions:
            call.set_messages(semconv.SYSTEM_INSTRUCTIONS, [messages.text_part(instructions)])
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_items(kwargs.get("input")))
        call.set_value(semconv.TOOL_DEFINITIONS, items(kwargs.get("tools")) or None, as_json=True)
    return call


def _start_fetch(recorder: Recorder, resource: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    attributes = {
        semconv.OPENAI_API_TYPE: "responses",
        semconv.RESPONSE_ID: word(args[0] if args else kwargs.get("response_id")),
    }
    return _start(recorder, resource, "fetch_response", {"stream": kwargs.get("stream")}, attributes)


def _start_embedding(recorder: Recorder, resource: Any, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    attributes = {
        semconv.EMBEDDINGS_DIMENSION_COUNT: count(kwargs.get("dimensions")),
        semconv.REQUEST_ENCODING_FORMATS: words(kwargs.get("encoding_format")),
    }
    call = _start(recorder, resource, "embeddings", kwargs, attributes)
    if call.records_content:
        call.set_value(semconv.LIMELIGHT_INPUT, given(kwargs.get("input")))
    return call


def _finish(read: Any, chunks: Any, call: Call, result: Any, _kwargs: dict[str, Any], asked: bool) -> None:
    stainless.finish(call, result, read, chunks, hide_usage=asked)


def _is_raw(kwargs: dict[str, Any]) -> bool:
    """Whether the call comes through `.with_raw_response` or `.with_streaming_response`."""
    headers = kwargs.get("extra_headers")
    return type(headers) is dict and any((word(name) or "").lower() == _RAW for name in cast("dict[Any, Any]", headers))


def _ask_usage(recorder: Recorder, resource: Any, kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """Add `stream_options.include_usage` where the user left it open and the server takes it; else None.

    A raw body is the user's as it comes: the extra chunk could not be hidden there.
    """
    if not recorder.ask_stream_usage or kwargs.get("stream") is not True or _is_raw(kwargs):
        return None
    asked = given(kwargs.get("stream_options"))
    options = {} if asked is None else asked
    if type(options) is not dict or "include_usage" in options or not _takes_stream_options(_client(resource), kwargs):
        return None
    if "continuous_usage_stats" in options:  # vLLM heeds it only together with ours, and then changes every chunk
        return None
    return {**kwargs, "stream_options": {**cast("dict[str, Any]", options), "include_usage": True}}


def _takes_stream_options(client: Any, kwargs: dict[str, Any]) -> bool:
    provider = _provider(client, *stainless.address(client))
    if provider == _AZURE:
        version = word(getattr(client, "_api_version", None))
        # `extra_body` is how "on your data" is asked for, which refuses the option
        extra = given(kwargs.get("extra_body"))
        is_bare = extra is None or (type(extra) is dict and not extra)
        return is_bare and (version is None or version >= _AZURE_STREAM_OPTIONS)
    return provider not in _REFUSE_STREAM_OPTIONS


def _operation(start: Any, read: Any, chunks: Any = None, amend: Any = None) -> Operation:
    return Operation("openai", start, functools.partial(_finish, read, chunks), amend)


_CHAT = _operation(_start_chat, answers.read_chat, ChatChunks, _ask_usage)
_COMPLETION = _operation(_start_completion, answers.read_chat, ChatChunks, _ask_usage)
_RESPONSE = _operation(_start_response, answers.read_response, ResponseEvents)
_FETCH = _operation(_start_fetch, answers.read_fetched, functools.partial(ResponseEvents, fetched=True))
_EMBEDDING = _operation(_start_embedding, answers.read_embedding)
_METHODS = {
    "chat.completions": ("Completions", {"create": _CHAT, "parse": _CHAT}),
    "beta.chat.completions": ("Completions", {"parse": _CHAT}),  # where it was before 1.92
    "completions": ("Completions", {"create": _COMPLETION}),
    "responses": ("Responses", {"create": _RESPONSE, "parse": _RESPONSE, "retrieve": _FETCH}),
    "beta.responses": ("Responses", {"create": _RESPONSE, "retrieve": _FETCH}),
    "embeddings": ("Embeddings", {"create": _EMBEDDING}),
}


OVER_HTTP = {
    "chat": (_start_chat, answers.read_chat, ChatChunks),
    "completions": (_start_completion, answers.read_chat, ChatChunks),
    "responses": (_start_response, answers.read_response, ResponseEvents),
    "embeddings": (_start_embedding, answers.read_embedding, None),
}
"""The same over plain HTTP: what starts the call (of a `Server` and a body), reads the answer, takes chunks."""


def instrument(patches: Patches, module: ModuleType) -> None:
    """Wrap the methods of one resource, synchronous and asynchronous; the `stream` helpers stand on `create`."""
    owner, methods = _METHODS[module.__name__.removeprefix("openai.resources.")]
    for name, operation in methods.items():
        for kind in (owner, f"Async{owner}"):
            patches.replace(getattr(module, kind), name, functools.partial(wrap, operation=operation))
