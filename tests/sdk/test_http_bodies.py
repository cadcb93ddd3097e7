"""Bodies read in every way an HTTP client offers, whole or cut short: the user's bytes are the server's, one span."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import pickle
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from limelight import call
from limelight.body import _bodies
from limelight.testing import Recorded
from sdk.server import Peer, Reply, json_reply, sse_reply

httpx = pytest.importorskip("httpx")
requests = pytest.importorskip("requests")
aiohttp = pytest.importorskip("aiohttp")
pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from sdk.http_clients import WAYS, WHOLE, Way  # noqa: E402

by_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
USAGE = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}


def _chunk(text: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more}


CHUNKS = [_chunk("Grüß "), _chunk("dich "), _chunk("\u2028 ok"), _chunk("", "stop", usage=USAGE)]
STREAM = sse_reply(CHUNKS)
BODY = b"".join(STREAM.pieces)
PLAIN = json_reply(
    {**HEAD, "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Grüß dich"}}], "usage": USAGE}
)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    yield
    assert call._open == {}, "a span was left open"
    assert _bodies == {}, "a body is still attended"


def _compressed(reply: Reply) -> Reply:
    whole = gzip.compress(b"".join(reply.pieces))
    pieces = [whole[start:end] for start, end in pairwise([*range(0, len(whole), 40), len(whole)])]
    return Reply(reply.status, {**reply.headers, "Content-Encoding": "gzip"}, pieces)


def _sized(reply: Reply) -> Reply:
    """Not chunked: its length is told, and its pieces are the network's."""
    length = sum(map(len, reply.pieces))
    return Reply(reply.status, {**reply.headers, "Content-Length": str(length)}, reply.pieces)


PREPARED = pytest.mark.parametrize(
    "prepare",
    [lambda reply: reply, _compressed, _sized, lambda reply: _sized(_compressed(reply))],
    ids=["plain", "gzip", "sized", "sized gzip"],
)


def _assert_read(spans: Recorded, way: Way, *, text: str, streams: bool) -> None:
    span = spans.only()
    seen = span.attributes
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (20, 7)
    assert seen["gen_ai.response.finish_reasons"] == ["stop"]
    (message,) = json.loads(seen["gen_ai.output.messages"])
    assert message["parts"] == [{"type": "text", "content": text}]
    assert ("gen_ai.response.time_to_first_chunk" in seen) is (streams and not way.is_whole)
    assert span.status == "unset"


@PREPARED
@by_way
def test_a_stream_is_read(way: Way, prepare: Callable[[Reply], Reply], peer: Peer, spans: Recorded) -> None:
    reply = prepare(STREAM)
    peer.says(reply)
    expected = b"".join(reply.pieces) if way.is_raw else BODY
    # a library that splits lines gives them without their ends, and one of them also at U+2028
    received = way.post(f"{peer.url}/v1/chat/completions", CHAT)
    assert received.replace(b"\n", b"") == expected.replace(b"\n", b"")
    _assert_read(spans, way, text="Grüß dich \u2028 ok", streams=True)


@PREPARED
@by_way
def test_a_whole_answer_is_read(way: Way, prepare: Callable[[Reply], Reply], peer: Peer, spans: Recorded) -> None:
    reply = prepare(PLAIN)
    peer.says(reply)
    received = way.post(f"{peer.url}/v1/chat/completions", {**CHAT, "stream": False})
    assert received.rstrip(b"\n") == b"".join((reply if way.is_raw else PLAIN).pieces)
    _assert_read(spans, way, text="Grüß dich", streams=False)


@by_way
def test_a_cut_stream_fails_as_the_user_sees_it(way: Way, peer: Peer, spans: Recorded) -> None:
    peer.says(Reply(200, STREAM.headers, STREAM.pieces[:2], cut=True))
    error: BaseException | None = None
    try:
        way.post(f"{peer.url}/v1/chat/completions", CHAT)
    except Exception as raised:
        error = raised
    assert error is not None
    span = spans.only()
    assert span.status == "error"
    assert span.attributes["error.type"].endswith(type(error).__name__)
    assert "gen_ai.usage.output_tokens" not in span.attributes


@given(cuts=st.lists(st.integers(1, len(BODY) - 1), max_size=6, unique=True), way=st.sampled_from(WHOLE))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_pieces_cut_anywhere(cuts: list[int], way: Way, peer: Peer, spans: Recorded) -> None:
    places = [0, *sorted(cuts), len(BODY)]
    peer.says(Reply(200, STREAM.headers, [BODY[start:end] for start, end in pairwise(places)]))
    spans.bodies.clear()
    assert way.post(f"{peer.url}/v1/chat/completions", CHAT) == BODY
    _assert_read(spans, way, text="Grüß dich \u2028 ok", streams=True)


def _requests_leave_early(url: str, leave: Callable[[Any], None]) -> None:
    with requests.Session() as session:
        response = session.post(url, json=CHAT, stream=True, timeout=20)
        leave(response)
        del response
        gc.collect()


def _httpx_leave_early(url: str, leave: Callable[[Any], None]) -> None:
    with httpx.Client() as client:
        response = client.send(client.build_request("POST", url, json=CHAT), stream=True)
        leave(response)
        response.close()


def _next_line(response: Any) -> None:
    assert next(iter(response.iter_lines()))


LEAVINGS = {
    "never read": lambda response: None,
    "closed": lambda response: response.close(),
    "one line": _next_line,
    "one line, closed": lambda response: (_next_line(response), response.close()),
}


@pytest.mark.parametrize("post", [_httpx_leave_early, _requests_leave_early], ids=["httpx", "requests"])
@pytest.mark.parametrize("leave", LEAVINGS)
def test_a_stream_left_early_is_one_span(leave: str, post: Any, peer: Peer, spans: Recorded) -> None:
    peer.says(STREAM)
    post(f"{peer.url}/v1/chat/completions", LEAVINGS[leave])
    span = spans.only()
    assert span.status == "unset"
    assert "gen_ai.usage.output_tokens" not in span.attributes
    assert span.attributes["gen_ai.request.model"] == "m"


async def _aiohttp_one_line(response: Any) -> None:
    assert await response.content.readline()


ASYNC_LEAVINGS = {
    "never read": lambda response: asyncio.sleep(0),
    "one line": _aiohttp_one_line,
}


@pytest.mark.parametrize("end", ["with", "close", "release", "collected"])
@pytest.mark.parametrize("leave", ASYNC_LEAVINGS)
async def test_an_aiohttp_stream_left_early_is_one_span(leave: str, end: str, peer: Peer, spans: Recorded) -> None:
    peer.says(STREAM)
    async with aiohttp.ClientSession() as session:
        response = await session.post(f"{peer.url}/v1/chat/completions", json=CHAT)
        await ASYNC_LEAVINGS[leave](response)
        if end == "with":
            async with response:
                pass
        elif end == "close":
            response.close()
        elif end == "release":
            response.release()
        del response
    gc.collect()
    span = spans.only()
    assert span.status == "unset"
    assert "gen_ai.usage.output_tokens" not in span.attributes


async def _cancel_while_reading(open_and_read: Callable[[asyncio.Event], Any], spans: Recorded) -> None:
    reading = asyncio.Event()
    task = asyncio.create_task(open_and_read(reading))
    await reading.wait()
    await asyncio.sleep(0.05)  # until it waits for what never comes
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = spans.only()
    assert (span.status, span.attributes["error.type"]) == ("error", "asyncio.exceptions.CancelledError")


@pytest.fixture
def stuck(peer: Peer) -> Iterator[Peer]:
    """A server that sends one event and then nothing."""
    import threading

    hang = threading.Event()
    peer.says(Reply(200, STREAM.headers, STREAM.pieces[:1], hang=hang))
    yield peer
    hang.set()


async def test_cancelled_while_httpx_reads(stuck: Peer, spans: Recorded) -> None:
    async def read(reading: asyncio.Event) -> None:
        url = f"{stuck.url}/v1/chat/completions"
        async with httpx.AsyncClient() as client, client.stream("POST", url, json=CHAT) as response:
            async for _ in response.aiter_lines():
                reading.set()

    await _cancel_while_reading(read, spans)


async def test_cancelled_while_aiohttp_reads(stuck: Peer, spans: Recorded) -> None:
    async def read(reading: asyncio.Event) -> None:
        url = f"{stuck.url}/v1/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, json=CHAT) as response:
            async for _ in response.content:
                reading.set()

    await _cancel_while_reading(read, spans)


async def test_out_of_time_while_aiohttp_reads(stuck: Peer, spans: Recorded) -> None:
    timeout = aiohttp.ClientTimeout(sock_read=0.2)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with pytest.raises(asyncio.TimeoutError):
            async with session.post(f"{stuck.url}/v1/chat/completions", json=CHAT) as response:
                await response.read()
    span = spans.only()
    assert span.status == "error"
    assert "Timeout" in span.attributes["error.type"]


def test_out_of_time_while_requests_reads(stuck: Peer, spans: Recorded) -> None:
    with (
        requests.post(f"{stuck.url}/v1/chat/completions", json=CHAT, stream=True, timeout=0.2) as response,
        pytest.raises(requests.ConnectionError),
    ):
        list(response.iter_lines())
    assert spans.only().attributes["error.type"] == "requests.exceptions.ConnectionError"


def test_a_response_is_itself_again_when_it_is_over(peer: Peer, spans: Recorded) -> None:
    peer.says(STREAM)
    with httpx.Client() as client, client.stream("POST", f"{peer.url}/v1/chat/completions", json=CHAT) as response:
        during = set(vars(response))
        response.read()
    assert {"iter_bytes", "close"} <= during
    assert not {"iter_bytes", "aiter_bytes", "iter_raw", "aiter_raw", "close", "aclose"} & set(vars(response))
    assert pickle.loads(pickle.dumps(response)).content == BODY
    assert len(spans.spans()) == 1


def test_a_dropped_response_of_requests_is_gone_at_once(peer: Peer, spans: Recorded) -> None:
    peer.says(STREAM)
    response = requests.post(f"{peer.url}/v1/chat/completions", json=CHAT, stream=True, timeout=20)
    gone = weakref.ref(response)
    gc.disable()
    try:
        del response
        assert gone() is None
    finally:
        gc.enable()
    assert len(spans.spans()) == 1


def test_a_raw_body_that_is_kept_alone(peer: Peer, spans: Recorded) -> None:
    peer.says(STREAM)
    raw = requests.post(f"{peer.url}/v1/chat/completions", json=CHAT, stream=True, timeout=20).raw
    gc.collect()
    assert len(_bodies) == 1
    assert raw.read() == BODY
    assert spans.only().attributes["gen_ai.usage.output_tokens"] == 7


async def test_a_dropped_response_of_aiohttp_is_gone_at_once(peer: Peer, spans: Recorded) -> None:
    peer.says(STREAM)
    async with aiohttp.ClientSession() as session:
        response = await session.post(f"{peer.url}/v1/chat/completions", json=CHAT)
        gone = weakref.ref(response)
        while not response.content.is_eof():  # until then aiohttp itself holds it
            await asyncio.sleep(0.01)
        gc.disable()
        try:
            del response
            assert gone() is None
        finally:
            gc.enable()
    assert len(spans.spans()) == 1


def test_a_body_that_is_the_users_iterator_is_not_touched(peer: Peer, spans: Recorded) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"model": "m", '
        yield b'"messages": []}'

    def reply(asked: Any) -> Reply:
        return PLAIN

    peer.says(reply)
    url = f"{peer.url}/v1/chat/completions"
    assert httpx.post(url, content=pieces()).status_code == 200
    assert requests.post(url, data=pieces(), timeout=20).status_code == 200
    assert spans.spans() == []
    assert httpx.post(f"{peer.url}/openai/deployments/gpt/chat/completions", content=pieces()).status_code == 200
    assert spans.only().name == "chat gpt"
