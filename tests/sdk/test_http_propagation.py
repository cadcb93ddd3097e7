"""The trace goes along with model calls to servers of one's own, on the library's request and nowhere else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import limelight
from limelight import propagate
from limelight.providers.hosts import managed
from limelight.testing import Recorded, RecordedSpan, recording
from sdk.server import Peer, Reply, json_reply

httpx = pytest.importorskip("httpx")
requests = pytest.importorskip("requests")
aiohttp = pytest.importorskip("aiohttp")
openai = pytest.importorskip("openai")
ollama = pytest.importorskip("ollama")

from sdk.http_clients import WHOLE, Way  # noqa: E402
from sdk.test_ollama import ANSWER  # noqa: E402
from sdk.test_openai import COMPLETION  # noqa: E402

by_way = pytest.mark.parametrize("way", WHOLE, ids=lambda way: way.name)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def _header(span: RecordedSpan) -> str:
    return f"00-{span.trace_id}-{span.span_id}-01"


@by_way
def test_a_plain_call_carries_its_own_span(way: Way, peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION))
    way.post(f"{peer.url}/v1/chat/completions", CHAT)
    assert peer.asked[0].headers["traceparent"] == _header(spans.only())
    assert "tracestate" not in peer.asked[0].headers


@pytest.mark.parametrize("providers", [None, ["openai", "ollama"]])
def test_a_call_through_a_library_carries_its_span(providers: list[str] | None, peer: Peer) -> None:
    peer.says(json_reply(COMPLETION), json_reply(ANSWER), json_reply(COMPLETION))

    async def asynchronously() -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=f"{peer.url}/v1") as client:
            await client.chat.completions.create(**CHAT)

    with recording(providers=providers) as spans:
        openai.OpenAI(api_key="k", base_url=f"{peer.url}/v1").chat.completions.create(**CHAT)
        ollama.Client(peer.url).chat("m", CHAT["messages"])
        asyncio.run(asynchronously())
        seen = spans.spans()
    assert [span.attributes["gen_ai.provider.name"] for span in seen] == ["openai", "ollama", "openai"]
    assert [asked.headers["traceparent"] for asked in peer.asked] == [_header(span) for span in seen]


def test_what_the_user_sends_stays(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION))
    mine = "00-000000000000000000000000000000ff-00000000000000ff-01"
    headers = {"traceparent": mine, "Content-Type": "application/json"}
    url = f"{peer.url}/v1/chat/completions"
    httpx.post(url, json=CHAT, headers=headers)
    requests.post(url, json=CHAT, headers=headers, timeout=20)
    assert headers == {"traceparent": mine, "Content-Type": "application/json"}
    assert [asked.headers["traceparent"] for asked in peer.asked] == [mine, mine]


def test_the_users_own_headers_are_never_written_to(peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply(COMPLETION))
    url = f"{peer.url}/v1/chat/completions"
    given, client_wide = {"X-Mine": "1"}, {"X-Client": "2"}
    prepared = requests.Request("POST", url, json=CHAT, headers=given).prepare()
    built = httpx.Request("POST", url, json=CHAT, headers=httpx.Headers(given))
    before = dict(prepared.headers), dict(built.headers)

    async def with_aiohttp() -> Any:
        async with (
            aiohttp.ClientSession(headers=client_wide) as session,
            session.post(url, json=CHAT, headers=given) as response,
        ):
            await response.read()
            return dict(response.request_info.headers), dict(session.headers)

    with requests.Session() as session, httpx.Client(headers=client_wide) as client:
        first = session.send(prepared)
        second = client.send(built)
        client.send(built)
        client.post(url, json=CHAT, headers=given)
        assert "traceparent" not in client.headers
        assert "traceparent" not in session.headers
    info, session_headers = asyncio.run(with_aiohttp())
    assert "traceparent" not in {name.lower() for name in (*info, *session_headers)}
    assert (given, client_wide) == ({"X-Mine": "1"}, {"X-Client": "2"})
    assert (dict(prepared.headers), dict(built.headers)) == before
    assert "traceparent" not in first.request.headers
    assert "traceparent" not in second.request.headers
    sent = [asked.headers["traceparent"] for asked in peer.asked]
    assert sent == [_header(span) for span in spans.spans()]  # also of the request sent twice: each call its own


def test_a_request_that_is_none_is_refused_as_ever(spans: Recorded) -> None:
    headers = {"X-Mine": "1"}
    with limelight.span("s"), requests.Session() as session, pytest.raises(ValueError, match="PreparedRequests"):
        session.send(requests.Request("POST", "http://127.0.0.1:9/", headers=headers))
    assert headers == {"X-Mine": "1"}


@by_way
def test_redirects_carry_it_too(way: Way, peer: Peer, spans: Recorded) -> None:
    peer.says(Reply(307, {"Location": "/v1/chat/completions"}), json_reply(COMPLETION))
    way.post(f"{peer.url}/v1/chat/completions", CHAT)
    assert {asked.headers["traceparent"] for asked in peer.asked} == {_header(spans.only())}


def test_no_request_of_a_redirect_keeps_it(peer: Peer, spans: Recorded) -> None:
    peer.says(Reply(307, {"Location": "/v1/chat/completions"}), json_reply(COMPLETION))
    url = f"{peer.url}/v1/chat/completions"
    followed = [httpx.post(url, json=CHAT, follow_redirects=True)]
    peer.says(Reply(307, {"Location": "/v1/chat/completions"}), json_reply(COMPLETION))
    followed.append(requests.post(url, json=CHAT, timeout=20))
    peer.says(Reply(307, {"Location": "/v1/chat/completions"}))
    left = httpx.post(url, json=CHAT), requests.post(url, json=CHAT, timeout=20, allow_redirects=False)
    made = [response.request for first in followed for response in (first, *first.history)]
    made += [left[0].next_request, left[1].next]
    assert len(made) == 6
    assert not any("traceparent" in request.headers for request in made)
    assert all("traceparent" in asked.headers for asked in peer.asked)


async def test_a_redirect_of_aiohttp_keeps_its_history(peer: Peer, spans: Recorded) -> None:
    peer.says(Reply(307, {"Location": "/v1/chat/completions"}), json_reply(COMPLETION))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{peer.url}/v1/chat/completions", json=CHAT) as response,
    ):
        assert [past.status for past in response.history] == [307]  # remembered when first asked for: never by us


@by_way
def test_other_requests_carry_nothing_by_default(way: Way, peer: Peer, spans: Recorded) -> None:
    peer.says(json_reply({}))
    with limelight.span("step"):
        way.post(f"{peer.url}/other", {})
    assert "traceparent" not in peer.asked[0].headers


@by_way
def test_the_setting(way: Way, peer: Peer) -> None:
    peer.says(json_reply(COMPLETION))
    url = f"{peer.url}/v1/chat/completions"
    with recording(propagate="none"):
        way.post(url, CHAT)
    with recording(propagate="all") as spans, limelight.span("step"):
        way.post(f"{peer.url}/other", {})
    way.post(url, CHAT)
    silent, other, outside = peer.asked
    assert "traceparent" not in silent.headers
    assert other.headers["traceparent"] == _header(spans.named("step")[0])
    assert "traceparent" not in outside.headers


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("x.openai.azure.com", "azure.ai.openai"),
        ("api.anthropic.com", "anthropic"),
        ("generativelanguage.googleapis.com", "gcp.gemini"),
        ("europe-west4-aiplatform.googleapis.com", "gcp.vertex_ai"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws.bedrock"),
        ("ec2-1-2-3-4.compute.amazonaws.com", None),
        ("api.mistral.ai", "mistral_ai"),
        ("api.cohere.com", "cohere"),
        ("notapi.openai.com.example", None),
        ("127.0.0.1", None),
    ],
)
def test_managed_hosts_get_nothing_unless_told(host: str, provider: str | None) -> None:
    assert managed(host) == provider
    for mode, wanted in (("auto", provider is None), ("all", True), ("none", False)):
        found: list[dict[str, str]] = []

        def handler(request: Any, found: list[dict[str, str]] = found) -> Any:
            found.append(dict(request.headers))
            return httpx.Response(200, json=COMPLETION)

        with recording(propagate=mode) as spans:
            with httpx.Client(transport=httpx.MockTransport(handler)) as client:
                client.post(f"https://{host}/v1/chat/completions", json=CHAT)
            assert len(spans.spans()) == 1
        assert ("traceparent" in found[0]) is wanted, mode


def test_our_own_requests_are_nobodys_telemetry(peer: Peer) -> None:
    """They carry no trace even where every request does."""
    peer.says(Reply(200, {"Content-Type": "application/x-protobuf"}))
    limelight.init(endpoint=peer.url, propagate="all")
    try:
        with limelight.span("step"):
            assert limelight.flush(5)
        assert limelight.flush(5)
    finally:
        limelight.shutdown(5)
        limelight.uninstrument()
    assert peer.asked
    assert not any("traceparent" in asked.headers for asked in peer.asked)


def test_headers_are_found_without_a_client(spans: Recorded) -> None:
    assert propagate.outgoing_headers("127.0.0.1") == {}
    with limelight.span("step"):
        assert propagate.outgoing_headers("127.0.0.1") == {}
    with recording(propagate="all"), limelight.span("step") as step:
        assert propagate.outgoing_headers("127.0.0.1") == {"traceparent": f"00-{step.trace_id}-{step.span_id}-01"}
