"""aiohttp: what users do who call a model API by hand."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, Reply, json_reply, ndjson_reply, sse_reply
from sdk.test_ollama import STREAM
from sdk.test_openai import CHUNKS, COMPLETION, MESSAGES

LIBRARY = "aiohttp"
CHAT = {"model": "m", "messages": MESSAGES}
STREAMED = {**CHAT, "stream": True}


class Desk:
    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        self.path = "/v1/chat/completions"

        async def session() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(peer.url, headers={"X-Mine": "1"})

        self.session = loop.run_until_complete(session())

    def close(self) -> None:
        self.loop.run_until_complete(self.session.close())


def plain(value: Any) -> Any:
    return value


async def _plain(response: Any) -> Any:
    sent = sorted(name.lower() for name in response.request_info.headers)
    return response.status, response.reason, await response.json(), sent


def _posted(path: str, *replies: Reply) -> Any:
    def journey(desk: Desk) -> Any:
        async def run() -> Any:
            async with desk.session.post(path, json=CHAT) as response:
                return await _plain(response), [past.status for past in response.history]

        desk.peer.says(*replies)
        return desk.loop.run_until_complete(run())

    return journey


def _raised(desk: Desk) -> Any:
    async def run() -> Any:
        await desk.session.post(desk.path, json=CHAT, raise_for_status=True)

    desk.peer.says(json_reply({"error": {"message": "no"}}, 500))
    desk.loop.run_until_complete(run())


def _unreachable(desk: Desk) -> Any:
    async def run() -> Any:
        async with aiohttp.ClientSession() as session:
            await session.post("http://127.0.0.1:9/v1/chat/completions", json=CHAT)

    return desk.loop.run_until_complete(run())


def _released(desk: Desk) -> Any:
    async def run() -> Any:
        response = await desk.session.post(desk.path, json=STREAMED)
        line = await response.content.readline()
        response.release()
        try:
            await response.read()
        except aiohttp.ClientError as error:
            return line, type(error).__name__, str(error)
        return line

    desk.peer.says(sse_reply(CHUNKS))
    return desk.loop.run_until_complete(run())


def _text(desk: Desk) -> Any:
    async def run() -> Any:
        async with desk.session.post(desk.path, data=b'{"model": "m", "messages": []}') as response:
            return await response.text(), await response.read(), response.content.at_eof()

    desk.peer.says(sse_reply(CHUNKS))
    return desk.loop.run_until_complete(run())


def _cut(desk: Desk) -> Any:
    async def run() -> Any:
        received: list[Any] = []
        try:
            async with desk.session.post(desk.path, json=STREAMED) as response:
                async for line in response.content:
                    received.append(line)
        except aiohttp.ClientError as error:
            # how much is handed on before the error depends on when it comes
            return type(error).__name__, str(error)
        return received

    desk.peer.says(sse_reply(CHUNKS[:2], done=False, cut=True))
    return desk.loop.run_until_complete(run())


async def _lines(desk: Desk) -> AsyncIterator[bytes]:
    async with desk.session.post(desk.path, json=STREAMED) as response:
        async for line in response.content:
            yield line


def _open_lines(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return _lines(desk)


async def _read(desk: Desk) -> AsyncIterator[bytes]:
    response = await desk.session.post("/api/chat", json=CHAT)
    while line := await response.content.readline():
        yield line


def _open_read(desk: Desk) -> Any:
    desk.peer.says(ndjson_reply(STREAM))
    return _read(desk)


JOURNEYS = [
    Journey("post", _posted("/v1/chat/completions", json_reply(COMPLETION))),
    Journey("another request", _posted("/other", json_reply({"ok": True})), calls=0),
    Journey("429", _posted("/v1/chat/completions", json_reply({"error": {"message": "slow down"}}, 429))),
    Journey(
        "redirect",
        _posted("/v1/chat/completions", Reply(307, {"Location": "/v1/chat/completions"}), json_reply(COMPLETION)),
    ),
    Journey("raise for status", _raised),
    Journey("unreachable", _unreachable),
    Journey("released", _released),
    Journey("text", _text),
    Journey("cut stream", _cut),
]
STREAMS = [
    Stream("lines", _open_lines, plain, is_async=True, close="aclose", has_span_unopened=False),
    Stream("read", _open_read, plain, is_async=True, close="aclose", has_span_unopened=False),
]


async def _sent(desk: Desk, asked: dict[str, Any]) -> bytes:
    async with desk.session.post(desk.path, **asked) as response:
        return await response.read()


ASKS = [
    Ask(
        "post",
        lambda desk, asked: desk.loop.run_until_complete(_sent(desk, asked)),
        lambda: {"json": copy.deepcopy(CHAT), "headers": {"x-mine": "1"}},
        json_reply(COMPLETION),
    ),
    Ask(
        "data",
        lambda desk, asked: desk.loop.run_until_complete(_sent(desk, asked)),
        lambda: {"data": json.dumps(CHAT).encode()},
        json_reply(COMPLETION),
    ),
    Ask(
        "stream",
        lambda desk, asked: desk.loop.run_until_complete(_sent(desk, asked)),
        lambda: {"json": copy.deepcopy(STREAMED)},
        sse_reply(CHUNKS),
    ),
]
