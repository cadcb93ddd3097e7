"""Anthropic's library (0.40 to 2.x): every way to create a message, of the API, its beta, Bedrock and Vertex.

All of them (`create`, `stream`, `parse`, raw, tool runners) meet in the client's `request`, which is observed here:
above it the library counts stack frames for its warnings, and a `stream` that is never entered sends nothing.

Since 1.14 the library makes spans of its own for the same calls. Inside ours they are silent.
"""

from __future__ import annotations

import importlib
import inspect
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.trace import NoOpTracer

from limelight import semconv
from limelight.around import Operation, wrap
from limelight.call import HTTP, Call, Recorder, model_call, muted
from limelight.guard import quiet
from limelight.providers import anthropic_messages as messages
from limelight.providers import stainless
from limelight.providers.anthropic_answers import MessageEvents, read_message
from limelight.providers.hosts import provider_of, server_of
from limelight.providers.stainless import given
from limelight.values import field, items, number, word, words

if TYPE_CHECKING:
    from limelight.patch import Patches

_PATH = "/v1/messages"
_CLIENTS = (
    (("BaseBedrockClient", "BaseMantleClient"), "aws.bedrock"),
    (("BaseVertexClient",), "gcp.vertex_ai"),
    (("BaseFoundryClient", "BaseGoogleCloudClient"), "anthropic"),
)
"""Clients of other clouds, and who answers there."""


def _provider(client: Any) -> str:
    for names, provider in _CLIENTS:
        if stainless.is_a(client, *names):
            return provider
    return provider_of(*server_of(client), "anthropic")


def _start(recorder: Recorder, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    """Start the call of a request that creates a message; no other request is one."""
    options = args[1] if len(args) > 1 else kwargs.get("options")
    path = (word(field(options, "url")) or "").partition("?")[0]
    body, extra = field(options, "json_data"), field(options, "extra_json")
    if path != _PATH or type(body) is not dict:
        return None
    sent = {**body, **extra} if type(extra) is dict else body
    return _start_message(recorder, client, cast("dict[str, Any]", sent))


def _start_message(recorder: Recorder, client: Any, body: dict[str, Any]) -> Call:
    host, port = stainless.address(client)
    tier = word(body.get("service_tier"))
    attributes = {
        semconv.PROVIDER_NAME: _provider(client),
        semconv.SERVER_ADDRESS: host,
        semconv.SERVER_PORT: port,
        semconv.REQUEST_STREAM: True if body.get("stream") is True else None,
        semconv.REQUEST_MAX_TOKENS: number(body.get("max_tokens")),
        semconv.REQUEST_TEMPERATURE: number(body.get("temperature")),
        semconv.REQUEST_TOP_P: number(body.get("top_p")),
        semconv.REQUEST_TOP_K: number(body.get("top_k")),
        semconv.REQUEST_STOP_SEQUENCES: words(body.get("stop_sequences")),
        semconv.REQUEST_REASONING_LEVEL: word(field(given(body.get("output_config")), "effort")),
        semconv.ANTHROPIC_REQUEST_SERVICE_TIER: None if tier == "auto" else tier,
        semconv.OUTPUT_TYPE: _output_type(body),
    }
    call = model_call(recorder, "chat", word(body.get("model")), attributes)
    if call.records_content:
        call.set_messages(semconv.SYSTEM_INSTRUCTIONS, messages.parts(body.get("system")))
        call.set_messages(semconv.INPUT_MESSAGES, messages.of_request(body.get("messages")))
        call.set_value(semconv.TOOL_DEFINITIONS, items(body.get("tools")) or None, as_json=True)
    return call


def _output_type(body: dict[str, Any]) -> str | None:
    """`json` where a schema is asked for; `output_format` is the older place."""
    for asked in (field(given(body.get("output_config")), "format"), given(body.get("output_format"))):
        if word(field(asked, "type")) == "json_schema":
            return "json"
    return None


def _finish(by_body: bool, call: Call, result: Any, _kwargs: dict[str, Any], _asked: bool) -> None:
    by_body = by_body and hasattr(type(result), "__stream__")
    stainless.finish(call, result, read_message, MessageEvents, by_body=by_body)


def _remakes_streams() -> bool:
    """Whether the `stream` helper reads the response by a stream of its own, as in the oldest versions."""
    helper = importlib.import_module("anthropic.lib.streaming").MessageStream
    return "raw_stream" not in inspect.signature(helper.__init__).parameters


_SPANLESS = NoOpTracer()


def _silenced(tracer: Any) -> Any:
    """What the library traces a call of ours with: nothing, or, where it would pass a trace on, our span's context."""
    if tracer is None or "anthropic" not in muted():
        return tracer
    real = getattr(tracer, "_tracer", tracer)  # the API's proxy, until there is a provider
    return None if isinstance(real, NoOpTracer) else _SPANLESS


def _silent_inside_ours(own: Any) -> property:
    """The library's `_tracer` property, without a tracer inside calls of ours and as it was everywhere else."""

    def tracer(client: Any) -> Any:
        found = own.__get__(client)
        with quiet("silencing the library's own spans"):
            return _silenced(found)
        return found

    return property(tracer)


def _start_posted(recorder: Recorder, server: Any, _args: tuple[Any, ...], body: dict[str, Any]) -> Call:
    return _start_message(recorder, server, body)


OVER_HTTP = {"messages": (_start_posted, read_message, MessageEvents)}
"""The same over plain HTTP: what starts the call (of a `Server` and a body), reads the answer, takes chunks."""


def instrument(patches: Patches, _module: ModuleType) -> None:
    """Wrap the request method of both kinds of client, and hush the library's own spans where it makes any."""
    clients = importlib.import_module("anthropic._base_client")
    finish = partial(_finish, _remakes_streams())
    operation = Operation("anthropic", _start, finish, mutes=HTTP | {"anthropic"})
    for kind in (clients.SyncAPIClient, clients.AsyncAPIClient):
        patches.replace(kind, "request", partial(wrap, operation=operation))
    patches.replace(clients.BaseClient, "_tracer", _silent_inside_ours)
