"""httpx and its fork: what users do who call a model API by hand."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, Reply, json_reply, ndjson_reply, sse_reply
from sdk.test_ollama import STREAM
from sdk.test_openai import CHUNKS, COMPLETION, MESSAGES

LIBRARY = "httpx"
CHAT = {"model": "m", "messages": MESSAGES}
STREAMED = {**CHAT, "stream": True}


class Desk:
    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        self.url = f"{peer.url}/v1/chat/completions"
        limits = httpx.Limits(max_connections=None)
        self.client, self.aclient = httpx.Client(limits=limits), httpx.AsyncClient(limits=limits)

    def close(self) -> None:
        self.client.close()
        self.loop.run_until_complete(self.aclient.aclose())


def plain(value: Any) -> Any:
    return value


def _plain(response: Any) -> Any:
    return response.status_code, response.reason_phrase, response.json(), sorted(response.request.headers)


def _post(desk: Desk) -> Any:
    desk.peer.says(json_reply(COMPLETION))
    return _plain(desk.client.post(desk.url, json=CHAT, headers={"X-Mine": "1"}))


def _async_post(desk: Desk) -> Any:
    desk.peer.says(json_reply(COMPLETION))
    return _plain(desk.loop.run_until_complete(desk.aclient.post(desk.url, json=CHAT)))


def _other(desk: Desk) -> Any:
    desk.peer.says(json_reply({"ok": True}))
    return _plain(desk.client.post(f"{desk.peer.url}/other", json=CHAT))


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"error": {"message": "slow down"}}, 429))
    return _plain(desk.client.post(desk.url, json=CHAT))


def _raised(desk: Desk) -> Any:
    desk.peer.says(json_reply({"error": {"message": "no"}}, 500))
    desk.client.post(desk.url, json=CHAT).raise_for_status()


def _redirected(desk: Desk) -> Any:
    desk.peer.says(Reply(307, {"Location": "/v1/chat/completions"}), json_reply(COMPLETION))
    response = desk.client.post(desk.url, json=CHAT, follow_redirects=True)
    return _plain(response), [past.status_code for past in response.history]


def _unreachable(desk: Desk) -> Any:
    return desk.client.post("http://127.0.0.1:9/v1/chat/completions", json=CHAT)


def _whole_stream(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return desk.client.post(desk.url, json=STREAMED).text


def _read_then_lines(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    with desk.client.stream("POST", desk.url, json=STREAMED) as response:
        response.read()
        return list(response.iter_lines()), response.is_closed, response.is_stream_consumed


def _read_twice(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    with desk.client.stream("POST", desk.url, json=STREAMED) as response:
        list(response.iter_bytes())
        return list(response.iter_bytes())


def _cut(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS[:2], done=False, cut=True))
    received: list[Any] = []
    try:
        received.extend(_lines(desk))
    except httpx.HTTPError as error:
        received.append((type(error).__name__, str(error)))
    return received


def _lines(desk: Desk) -> Iterator[str]:
    with desk.client.stream("POST", desk.url, json=STREAMED) as response:
        yield from response.iter_lines()


def _open_lines(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return _lines(desk)


def _open_sent(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return desk.client.send(desk.client.build_request("POST", desk.url, json=STREAMED), stream=True).iter_bytes(64)


def _open_raw(desk: Desk) -> Any:
    desk.peer.says(ndjson_reply(STREAM))
    url = f"{desk.peer.url}/api/chat"
    return desk.client.send(desk.client.build_request("POST", url, json=CHAT), stream=True).iter_raw(64)


async def _async_lines(desk: Desk) -> AsyncIterator[str]:
    async with desk.aclient.stream("POST", desk.url, json=STREAMED) as response:
        async for line in response.aiter_lines():
            yield line


def _open_async_lines(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return _async_lines(desk)


JOURNEYS = [
    Journey("post", _post),
    Journey("async post", _async_post),
    Journey("another request", _other, calls=0),
    Journey("429", _refused),
    Journey("raise for status", _raised),
    Journey("redirect", _redirected),
    Journey("unreachable", _unreachable),
    Journey("stream read at once", _whole_stream),
    Journey("read, then lines", _read_then_lines),
    Journey("read twice", _read_twice),
    Journey("cut stream", _cut),
]
STREAMS = [
    Stream("lines", _open_lines, plain, has_span_unopened=False),
    Stream("bytes", _open_sent, plain),
    Stream("raw", _open_raw, plain),
    Stream("async lines", _open_async_lines, plain, is_async=True, close="aclose", has_span_unopened=False),
]


ASKS = [
    Ask(
        "post",
        lambda desk, asked: desk.client.post(desk.url, **asked).content,
        lambda: {"json": copy.deepcopy(CHAT), "headers": {"x-mine": "1"}},
        json_reply(COMPLETION),
    ),
    Ask(
        "content",
        lambda desk, asked: desk.client.post(desk.url, **asked).content,
        lambda: {"content": json.dumps(CHAT).encode()},
        json_reply(COMPLETION),
    ),
    Ask(
        "stream",
        lambda desk, asked: desk.client.post(desk.url, **asked).content,
        lambda: {"json": copy.deepcopy(STREAMED)},
        sse_reply(CHUNKS),
    ),
]
