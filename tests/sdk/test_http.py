"""Plain HTTP calls to model APIs, with every HTTP client: the same span as through the API's own library."""

from __future__ import annotations

import json
from typing import Any

import pytest
from opentelemetry import context as otel_context

from limelight import patch
from limelight.testing import Recorded, RecordedSpan, recording
from sdk.server import Peer, Reply, json_reply, ndjson_reply, sse_reply

pytest.importorskip("httpx")
pytest.importorskip("requests")
pytest.importorskip("aiohttp")
openai = pytest.importorskip("openai")
ollama = pytest.importorskip("ollama")
anthropic = pytest.importorskip("anthropic")

from sdk import test_anthropic, test_anthropic_streams, test_ollama, test_openai  # noqa: E402
from sdk.http_clients import WHOLE, Way  # noqa: E402

by_whole = pytest.mark.parametrize("way", WHOLE, ids=lambda way: way.name)
CHAT = {
    "model": "gpt-4o",
    "messages": test_openai.MESSAGES,
    "temperature": 0.5,
    "max_tokens": 9,
    "seed": 7,
    "stop": ["x"],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}],
}
EMBEDDING = {
    "object": "list",
    "model": "e-1",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}],
    "usage": {"prompt_tokens": 4, "total_tokens": 4},
}
TEXT_COMPLETION = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "gpt-3.5-turbo-instruct",
    "choices": [{"index": 0, "text": "Hello", "finish_reason": "length", "logprobs": None}],
    "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
}


def _without_times(span: RecordedSpan) -> dict[str, Any]:
    """The attributes to compare; what a library's objects add to JSON are fields without a value."""
    seen = {name: value for name, value in span.attributes.items() if name != "gen_ai.response.time_to_first_chunk"}
    if "gen_ai.output.messages" in seen:
        seen["gen_ai.output.messages"] = _without_nulls(json.loads(seen["gen_ai.output.messages"]))
    return seen


def _without_nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return value


def _compare(ours: RecordedSpan, theirs: RecordedSpan) -> None:
    assert _without_times(ours) == _without_times(theirs)
    assert (ours.name, ours.kind, ours.status) == (theirs.name, theirs.kind, theirs.status)
    assert ours.events == theirs.events


def _openai(peer: Peer) -> Any:
    return openai.OpenAI(api_key="k", base_url=f"{peer.url}/v1", max_retries=0)


OPENAI_CALLS = {
    "chat": (lambda client: client.chat.completions.create(**CHAT), "chat/completions", test_openai.COMPLETION, CHAT),
    "responses": (
        lambda client: client.responses.create(model="gpt-5", input="hi", instructions="be brief"),
        "responses",
        test_openai.RESPONSE,
        {"model": "gpt-5", "input": "hi", "instructions": "be brief"},
    ),
    "embeddings": (
        lambda client: client.embeddings.create(model="e", input=["a"], encoding_format="float"),
        "embeddings",
        EMBEDDING,
        {"model": "e", "input": ["a"], "encoding_format": "float"},
    ),
    "completions": (
        lambda client: client.completions.create(model="instruct", prompt="hi", max_tokens=1),
        "completions",
        TEXT_COMPLETION,
        {"model": "instruct", "prompt": "hi", "max_tokens": 1},
    ),
}


@by_whole
@pytest.mark.parametrize("call", OPENAI_CALLS)
def test_openai_calls(call: str, way: Way, peer: Peer, spans: Recorded) -> None:
    through_library, path, answer, body = OPENAI_CALLS[call]
    peer.says(json_reply(answer))
    through_library(_openai(peer))
    assert json.loads(way.post(f"{peer.url}/v1/{path}", body)) == answer
    theirs, ours = spans.spans()
    _compare(ours, theirs)


@by_whole
def test_a_stream_of_openai(way: Way, peer: Peer, spans: Recorded) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    reply = sse_reply([*test_openai.CHUNKS, test_openai.USAGE_CHUNK])
    peer.says(reply)
    list(_openai(peer).chat.completions.create(**body))
    assert way.post(f"{peer.url}/v1/chat/completions", body) == b"".join(reply.pieces)
    theirs, ours = spans.spans()
    _compare(ours, theirs)
    assert ours.attributes["gen_ai.usage.input_tokens"] == 20
    assert ("gen_ai.response.time_to_first_chunk" in ours.attributes) is not way.is_whole


@by_whole
def test_streams_of_responses_and_messages(way: Way, peer: Peer, spans: Recorded) -> None:
    completed = {"type": "response.completed", "sequence_number": 3, "response": test_openai.RESPONSE}
    response = {"model": "gpt-5", "input": "hi", "stream": True}
    message = {"model": "claude-next", "max_tokens": 9, "messages": test_anthropic.MESSAGES, "stream": True}
    replies = [
        sse_reply(test_openai._events(completed), named=True),
        sse_reply(test_anthropic_streams.EVENTS, named=True, done=False),
    ]
    peer.says(replies[0], replies[0], replies[1], replies[1])
    list(_openai(peer).responses.create(**response))
    assert way.post(f"{peer.url}/v1/responses", response) == b"".join(replies[0].pieces)
    list(anthropic.Anthropic(api_key="k", base_url=peer.url, max_retries=0).messages.create(**message))
    assert way.post(f"{peer.url}/v1/messages", message) == b"".join(replies[1].pieces)
    seen = spans.spans()
    assert len(seen) == 4
    for theirs, ours in zip(seen[::2], seen[1::2], strict=True):
        _compare(ours, theirs)
        assert ours.attributes["gen_ai.usage.output_tokens"] in {7, 45}


@by_whole
def test_a_message_of_anthropic(way: Way, peer: Peer, spans: Recorded) -> None:
    body = {"model": "claude-next", "max_tokens": 10, "messages": test_anthropic.MESSAGES, "system": "be brief"}
    peer.says(json_reply(test_anthropic.MESSAGE))
    anthropic.Anthropic(api_key="k", base_url=peer.url, max_retries=0).messages.create(**body)
    assert json.loads(way.post(f"{peer.url}/v1/messages", body)) == test_anthropic.MESSAGE
    theirs, ours = spans.spans()
    _compare(ours, theirs)
    assert ours.attributes["gen_ai.usage.input_tokens"] == 120


@by_whole
def test_ollama_chats_and_embeddings(way: Way, peer: Peer, spans: Recorded) -> None:
    client = ollama.Client(peer.url)
    chat = {"model": "smollm2", "messages": test_ollama.MESSAGES, "options": {"temperature": 0.5, "num_predict": 3}}
    peer.says(
        json_reply(test_ollama.ANSWER),
        json_reply(test_ollama.ANSWER),
        ndjson_reply(test_ollama.STREAM),
        ndjson_reply(test_ollama.STREAM),
        *[json_reply({"model": "e", "embeddings": [[0.1, 0.2]], "prompt_eval_count": 4})] * 2,
    )
    client.chat("smollm2", chat["messages"], options=chat["options"])
    way.post(f"{peer.url}/api/chat", {**chat, "stream": False})
    list(client.chat("smollm2", chat["messages"], options=chat["options"], stream=True))
    way.post(f"{peer.url}/api/chat", chat)  # the API's own default is to stream
    client.embed("e", ["a"])
    way.post(f"{peer.url}/api/embed", {"model": "e", "input": ["a"]})
    seen = spans.spans()
    assert len(seen) == 6
    for theirs, ours in zip(seen[::2], seen[1::2], strict=True):
        _compare(ours, theirs)


@by_whole
def test_triton_models(way: Way, peer: Peer, spans: Recorded) -> None:
    answer = {"model_name": "ensemble", "model_version": "1", "text_output": "Hello"}
    pieces = [{**answer, "text_output": text} for text in ("Hel", "lo")]
    peer.says(json_reply(answer), sse_reply(pieces, done=False), json_reply({**answer, "outputs": []}))
    base = f"{peer.url}/v2/models/ensemble/versions/1"
    way.post(f"{base}/generate", {"text_input": "hi", "max_tokens": 5})
    way.post(f"{base}/generate_stream", {"text_input": "hi", "max_tokens": 5, "stream": True})
    way.post(f"{base}/infer", {"inputs": []})
    whole, streamed, inferred = spans.spans()
    for span in (whole, streamed):
        seen = span.attributes
        assert span.name == "text_completion ensemble"
        assert (seen["gen_ai.provider.name"], seen["gen_ai.request.max_tokens"]) == ("triton", 5)
        assert (seen["server.address"], seen["server.port"]) == ("127.0.0.1", peer.port)
        assert json.loads(seen["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "Hello"}]
        assert json.loads(seen["gen_ai.input.messages"])[0]["parts"] == [{"type": "text", "content": "hi"}]
    assert streamed.attributes["gen_ai.request.stream"] is True
    assert (inferred.name, inferred.attributes["limelight.kind"]) == ("infer ensemble", "inference")
    assert inferred.attributes["gen_ai.request.model"] == "ensemble"
    assert "gen_ai.operation.name" not in inferred.attributes
    assert inferred.attributes["gen_ai.response.model"] == "ensemble"
    assert inferred.attributes["triton.model_version"] == "1"


@by_whole
def test_a_status_of_failure_fails_the_span(way: Way, peer: Peer, spans: Recorded) -> None:
    replies = [
        json_reply({"error": {"message": "slow down", "type": "rate_limit"}}, 429),
        json_reply({"error": "model 'x' not found"}, 404),
        json_reply({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529),
        json_reply({"detail": [{"loc": ["body"], "msg": "field required"}]}, 422),
        json_reply({"object": "error", "message": "too long", "code": 400}, 400),
        Reply(502, {"Content-Type": "text/html"}, [b"<html>"]),
    ]
    peer.says(*replies)
    for reply in replies:
        assert way.post(f"{peer.url}/v1/chat/completions", CHAT) == b"".join(reply.pieces)
    found = [(span.status, span.attributes["error.type"], span.status_message) for span in spans.spans()]
    assert found[:5] == [
        ("error", "429", "slow down"),
        ("error", "404", "model 'x' not found"),
        ("error", "529", "Overloaded"),
        ("error", "422", "field required"),
        ("error", "400", "too long"),
    ]
    assert found[5] == ("error", "502", "Bad Gateway")


@by_whole
def test_an_error_after_a_status_of_success(way: Way, peer: Peer, spans: Recorded) -> None:
    error = {"error": {"message": "out of memory", "type": "server_error", "code": 500}}
    peer.says(sse_reply([test_openai.CHUNKS[1], error]), json_reply(error), ndjson_reply([{"error": "out of memory"}]))
    way.post(f"{peer.url}/v1/chat/completions", {**CHAT, "stream": True})
    way.post(f"{peer.url}/v1/chat/completions", CHAT)
    way.post(f"{peer.url}/api/chat", CHAT)
    streamed, whole, native = spans.spans()
    for span in (streamed, whole):
        assert (span.status, span.attributes["error.type"]) == ("error", "server_error")
        assert span.status_message == "out of memory"
    assert (native.status, native.attributes["error.type"], native.status_message) == (
        "error",
        "error",
        "out of memory",
    )


@by_whole
def test_a_connection_refused_is_an_error_of_its_class(way: Way, spans: Recorded) -> None:
    with Peer() as peer:
        pass
    with pytest.raises(Exception) as raised:  # noqa: PT011  each library has its own
        way.post(f"{peer.url}/v1/chat/completions", CHAT)
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(raised.value).__name__)


@by_whole
def test_redirects_are_one_call(way: Way, peer: Peer, spans: Recorded) -> None:
    peer.says(Reply(307, {"Location": "/v1/chat/completions"}), json_reply(test_openai.COMPLETION))
    way.post(f"{peer.url}/elsewhere/v1/chat/completions", CHAT)
    span = spans.only()
    followed = len(peer.asked) == 2  # httpx does not, unless told to
    assert ("gen_ai.response.id" in span.attributes) is followed
    assert span.status == "unset"


@by_whole
def test_no_content_where_none_is_wanted(way: Way, peer: Peer) -> None:
    with recording(capture="none") as spans:
        peer.says(json_reply(test_openai.COMPLETION))
        way.post(f"{peer.url}/v1/chat/completions", CHAT)
        seen = spans.only().attributes
    assert seen["gen_ai.usage.output_tokens"] == 7
    assert not {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions"} & set(seen)


@by_whole
def test_what_is_no_model_call_is_left_alone(way: Way, peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply({}))
    for path, body in (
        ("/", CHAT),
        ("/v1/chat/completions/abc/cancel", CHAT),
        ("/v1/messages", {"to": "me", "text": "hi"}),
        ("/surveys/responses", {"answers": [1]}),
        ("/v1/embeddings", [1, 2]),
        ("/v1/completions", "text"),
        ("/v2/models/m/versions/1/stats", {}),
    ):
        way.post(f"{peer.url}{path}", body)
    assert spans.spans() == []


@by_whole
def test_the_list_of_hosts(way: Way, peer: Peer) -> None:
    peer.says(json_reply(test_openai.COMPLETION))
    for hosts, count in (
        (["127.0.0.1"], 1),
        ([f"127.0.0.1:{peer.port}"], 1),
        (["0.0.1"], 1),  # a domain stands for what is below it
        (["api.openai.com", "127.0.0.1:1"], 0),
        ([], 0),
        ("none", 0),
    ):
        with recording(http_hosts=hosts) as spans:
            way.post(f"{peer.url}/v1/chat/completions", CHAT)
            assert len(spans.spans()) == count, hosts


@by_whole
def test_a_library_that_is_not_wanted_is_silent(way: Way, peer: Peer) -> None:
    peer.says(json_reply(test_openai.COMPLETION))
    with recording(providers=["openai"]) as spans:
        way.post(f"{peer.url}/v1/chat/completions", CHAT)
        assert spans.spans() == []


@pytest.mark.parametrize("key", ["suppress_instrumentation", "suppress_http_instrumentation"])
@by_whole
def test_a_request_that_somebody_above_observes_is_left_alone(way: Way, key: str, peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(test_openai.COMPLETION))
    known = {
        "suppress_instrumentation": otel_context._SUPPRESS_INSTRUMENTATION_KEY,
        "suppress_http_instrumentation": otel_context._SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    }
    token = otel_context.attach(otel_context.set_value(known[key], True))
    try:
        way.post(f"{peer.url}/v1/chat/completions", CHAT)
    finally:
        otel_context.detach(token)
    assert spans.spans() == []
    assert "traceparent" not in peer.asked[0].headers


@by_whole
def test_an_azure_deployment_names_the_model(way: Way, peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(test_openai.COMPLETION))
    body = {"messages": test_openai.MESSAGES}
    way.post(f"{peer.url}/openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21", body)
    assert spans.only().name == "chat my gpt"


@by_whole
def test_a_server_of_one_model_needs_no_name(way: Way, peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(test_openai.COMPLETION))
    way.post(f"{peer.url}/v1/chat/completions", {"messages": test_openai.MESSAGES})
    span = spans.only()
    assert (span.name, span.attributes["gen_ai.response.model"]) == ("chat", "gpt-4o-2024")


@by_whole
def test_a_stream_under_another_type_is_known(way: Way, peer: Peer, spans: Recorded) -> None:
    reply = sse_reply(test_openai.CHUNKS)
    peer.says(Reply(200, {"Content-Type": "text/plain"}, reply.pieces))
    way.post(f"{peer.url}/v1/chat/completions", {**CHAT, "stream": True})
    assert spans.only().attributes["gen_ai.response.finish_reasons"] == ["stop"]


def test_what_is_patched_is_given_back() -> None:
    import aiohttp
    import httpx
    import requests
    from urllib3.response import HTTPResponse

    owners = [
        httpx.Client,
        httpx.AsyncClient,
        requests.Session,
        requests.Response,
        HTTPResponse,
        aiohttp.ClientSession,
        aiohttp.ClientRequest,
        aiohttp.ClientResponse,
        aiohttp.StreamReader,
    ]
    before = [dict(vars(owner)) for owner in owners]
    with recording(providers=["openai"]):
        assert [vars(owner) == was for owner, was in zip(owners, before, strict=True)] == [False] * len(owners)
    assert [dict(vars(owner)) for owner in owners] == before


def test_each_of_two_packages_counts_for_its_own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    httpx2 = pytest.importorskip("httpx2")
    import httpx

    versions = {"httpx": "0.22.9", "httpx2": "2.0"}
    monkeypatch.setattr(patch.importlib.metadata, "version", lambda name: versions.get(name, "9.9"))
    before = httpx.Client.send, httpx2.Client.send
    with recording():
        assert (httpx.Client.send is before[0], httpx2.Client.send is before[1]) == (True, False)
