"""Plain HTTP requests that ask a model: known by path and body, read by the modules of the libraries they stand for.

What is on the wire is what those libraries send and receive, so the same functions read it: a request's JSON body takes
the place of the arguments, the parsed answer that of the answer object.
"""

from __future__ import annotations

import functools
import importlib
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from opentelemetry import context as otel_context

from limelight import call as calls
from limelight import patch, semconv, wire
from limelight.call import Call, Recorder, model_call
from limelight.providers.hosts import Server
from limelight.values import field, is_a, items, word
from limelight.watch import Chunks, Whole

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sent:
    """What an HTTP client says of a request it is about to send."""

    method: str
    host: str
    port: int | None
    path: str
    """Of the URL, decoded or not, without its query."""
    body: Callable[[], Any]
    """The body where it is at hand (bytes, text, parsed JSON), else None; asked only where the path fits."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How to read what comes back; kept on the call in between (`Call.asked`)."""

    read: Callable[[Call, Any], None]
    chunks: Callable[[bool], Chunks] | None
    """Takes whether content is kept; None where such an answer never streams."""
    streams_as: str | None
    """The content type of the stream that was asked for; None where none was."""


_PATHS = (
    (re.compile(r"/chat/completions$"), "openai", "chat"),
    (re.compile(r"/v1/messages$"), "anthropic", "messages"),
    (re.compile(r"/api/(chat|generate|embed|embeddings)$"), "ollama", None),
    (re.compile(r"/(completions|responses|embeddings)$"), "openai", None),
)
_TRITON = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/(infer|generate|generate_stream)$")
_ENDINGS = ("completions", "/responses", "/embeddings", "/messages", "/chat", "/generate", "/embed")
_TRITON_ENDINGS = ("/infer", "/generate", "/generate_stream")
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")


def start(library: str, sent: Sent) -> Call | None:
    """Start the call of a request to a model; None for any other request, and where such calls are not wanted.

    `library` is the HTTP client's name among the providers.
    """
    if sent.method != "POST" or not sent.path.endswith(_ENDINGS + _TRITON_ENDINGS):
        return None
    recorder = calls.active(library)
    if recorder is None or not patch.is_wanted(library) or not _listed(recorder, sent):
        return None
    if otel_context.get_value(otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY):  # pyright: ignore[reportPrivateUsage]  # noqa: SLF001  somebody above observes this request
        return None
    if "/v2/models/" in sent.path:
        return _start_triton(recorder, sent)
    kind = _kind(sent.path)
    if kind is None:
        return None
    body = _json(sent.body())
    if body is None and _DEPLOYMENT.search(sent.path) is None:
        return None
    return _start(recorder, sent, *kind, body or {})


def _listed(recorder: Recorder, sent: Sent) -> bool:
    """Whether a host is traced: any, or one of the setting's, which may say a domain or a port."""
    if recorder.http_hosts is None:
        return True
    host = sent.host.lower()
    return any(
        listed in {host, f"{host}:{sent.port}"} or host.endswith("." + listed.removeprefix("."))
        for listed in recorder.http_hosts
    )


def _kind(path: str) -> tuple[str, str] | None:
    """(the module of the library, the name in its `OVER_HTTP`) of a path."""
    for pattern, module, name in _PATHS:
        found = pattern.search(path)
        if found is not None:
            return module, name or found.group(1)
    return None


def _json(body: Any) -> Json | None:
    """The object a body is; None for any other, and for one beyond the bound."""
    kind = type(body)
    if kind is bytes or kind is bytearray or kind is str:
        body = wire.parse(bytes(body) if kind is bytearray else body) if len(body) <= wire.MAX_BYTES else None
    return cast("Json", dict.copy(body)) if is_a(body, dict) else None


def _start(recorder: Recorder, sent: Sent, module: str, name: str, body: Json) -> Call | None:
    deployment = _DEPLOYMENT.search(sent.path)
    if deployment is not None:  # Azure: the address wins over the body
        body = {**body, "model": urllib.parse.unquote(deployment.group(1))}
    if module == "ollama":
        module, name, body = _ollama(name, body)
    if not _fits(module, name, body):
        return None
    known = importlib.import_module(f"limelight.providers.{module}").OVER_HTTP
    if name not in known:
        return None
    begin, read, chunks = known[name]
    call: Call = begin(recorder, Server(sent.host, sent.port), (), body)
    streams_as = (wire.NDJSON if module == "ollama" else wire.SSE) if body.get("stream") is True else None
    call.asked = Answer(read, chunks, streams_as)
    return call


def _ollama(name: str, body: Json) -> tuple[str, str, Json]:
    """Ollama's own words for what was asked: `embeddings` is the older `embed`, and streaming is the default."""
    if name == "embeddings":  # the same path with OpenAI's `input` is a gateway's
        return ("ollama", "embed", body) if "prompt" in body else ("openai", "embeddings", body)
    if name in {"chat", "generate"}:
        body = {**body, "stream": body.get("stream") is not False}
    return "ollama", name, body


def _fits(module: str, name: str, body: Json) -> bool:
    """Whether a body asks a model: it names one. llama.cpp's server serves but one and needs no name in a chat."""
    has_model, has_messages = word(body.get("model")) is not None, is_a(body.get("messages"), list)
    return (has_model and has_messages) if module == "anthropic" else has_model or (name == "chat" and has_messages)


def _start_triton(recorder: Recorder, sent: Sent) -> Call | None:
    found = _TRITON.search(sent.path)
    if found is None:
        return None
    where = {semconv.SERVER_ADDRESS: sent.host, semconv.SERVER_PORT: sent.port}
    if found.group(3) != "infer":
        return _start_generate(recorder, sent, where)
    attributes = {
        semconv.OPERATION_NAME: None,
        semconv.LIMELIGHT_KIND: "inference",
        semconv.PROVIDER_NAME: "triton",
        semconv.TRITON_MODEL_VERSION: found.group(2),
        **where,
    }
    # a model of any kind: as a call of the client for such, and without a place in the metrics of language models
    call = model_call(recorder, "infer", urllib.parse.unquote(found.group(1)), attributes)
    call.request = None
    call.asked = Answer(_read_infer, None, None)
    return call


def _read_infer(call: Call, answer: Any) -> None:
    """The head of an answer: its tensors may follow as bytes, and are not looked at."""
    call.set(semconv.RESPONSE_MODEL, word(field(answer, "model_name")))
    call.set(semconv.TRITON_MODEL_VERSION, word(field(answer, "model_version")))


def _start_generate(recorder: Recorder, sent: Sent, where: Json) -> Call | None:
    from limelight.providers import triton_generate

    asked = triton_generate.target(sent.path)
    if asked is None:
        return None
    body = _json(sent.body())
    call = triton_generate.start(recorder, asked, body, where)

    def read(call: Call, answer: Any) -> None:
        triton_generate.read_answer(call, recorder, asked, body, answer)

    chunks = functools.partial(triton_generate.Chunks, recorder, asked, body)
    call.asked = Answer(read, chunks, wire.SSE if asked.is_stream else None)
    return call


def takes(call: Call, status: int, reason: Any, content_type: str) -> tuple[Chunks, str]:
    """What takes the answer of a call, when its head is there, and the type its body has.

    A status of 400 and more fails the call. A stream that was asked for and comes as no JSON is taken for one.
    """
    asked: Answer = call.asked
    if status >= 400:
        call.refuse(str(status), word(reason) or "")
        return Whole(functools.partial(_read_refusal, str(status))), content_type
    if asked.streams_as is not None and not wire.media_type(content_type).endswith("json"):
        content_type = asked.streams_as
    if asked.chunks is not None and wire.is_stream(content_type):
        return _Checked(asked.chunks(call.records_content)), content_type
    return _Checked(Whole(asked.read)), content_type


def read_whole(call: Call, chunks: Chunks, content_type: str, content: bytes) -> None:
    """Read an answer that is all there, and end the call: when its first piece came is not known."""
    decoder = wire.decoder(content_type)
    for value in [*decoder.feed(content), *decoder.end()]:
        chunks.add(value)
    chunks.fill(call)
    call.stop()


def _read_refusal(error_type: str, call: Call, answer: Any) -> None:
    message = _message(answer)
    if message is not None:
        call.refuse(error_type, message)


def _message(answer: Any) -> str | None:
    """What a server says went wrong: `error` or `detail`, a text or an object with a `message`."""
    for name in ("error", "message", "detail"):
        value = field(answer, name)
        text = word(value) or word(field(value, "message"))
        if text is None and items(value):  # a validation error: a list of them
            text = word(field(items(value)[0], "msg"))
        if text is not None:
            return text
    return None


class _Checked:
    """Passes values on, except one that says an error after a status of 200: it fails the call."""

    def __init__(self, inner: Chunks) -> None:
        self._inner = inner
        self._error: Any = None

    def add(self, chunk: Any) -> bool:
        """Take one value; True where it carries content."""
        if type(chunk) is dict and chunk.get("error") and "status" not in chunk:
            self._error = chunk
        return self._inner.add(chunk)

    def fill(self, call: Call) -> None:
        """Write what has come, then the error."""
        self._inner.fill(call)
        if self._error is not None:
            error = field(self._error, "error")
            kind = word(field(error, "type")) or word(field(error, "code")) or "error"
            call.refuse(kind, _message(self._error) or "")
