"""Ollama's client: what its users do."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import ollama

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, json_reply, ndjson_reply
from sdk.test_ollama import ANSWER, COUNTS, MESSAGES, STREAM

LIBRARY = "ollama"
GENERATED = {"model": "smollm2", "response": "Hello", **COUNTS}
EMBEDDED = {"model": "e", "embeddings": [[0.1, 0.2]], "prompt_eval_count": 4}


class Desk:
    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        self.client, self.aclient = ollama.Client(peer.url), ollama.AsyncClient(peer.url)

    def close(self) -> None:
        self.client._client.close()
        self.loop.run_until_complete(self.aclient._client.aclose())


def plain(value: Any) -> Any:
    return value.model_dump()


def _chat(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.client.chat("smollm2", MESSAGES, options={"seed": 1}))


def _async_chat(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.loop.run_until_complete(desk.aclient.chat("smollm2", MESSAGES)))


def _generate(desk: Desk) -> Any:
    desk.peer.says(json_reply(GENERATED))
    return plain(desk.client.generate("smollm2", "hi", system="be brief"))


def _embed(desk: Desk) -> Any:
    desk.peer.says(json_reply(EMBEDDED))
    return plain(desk.client.embed("e", ["a"]))


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"error": "model 'x' not found"}, 404))
    return desk.client.chat("x", MESSAGES)


def _broken_inside(desk: Desk) -> Any:
    desk.peer.says(ndjson_reply([STREAM[1], {"error": "out of memory"}]))
    received = []
    try:
        for chunk in desk.client.chat("smollm2", MESSAGES, stream=True):
            received.append(plain(chunk))
    except ollama.ResponseError as error:
        received.append(str(error))
    return received


def _open_chat(desk: Desk) -> Any:
    desk.peer.says(ndjson_reply(STREAM))
    return desk.client.chat("smollm2", MESSAGES, stream=True)


async def _open_async_chat(desk: Desk) -> Any:
    desk.peer.says(ndjson_reply(STREAM))
    return await desk.aclient.chat("smollm2", MESSAGES, stream=True)


def _open_generate(desk: Desk) -> Any:
    desk.peer.says(ndjson_reply([{"model": "smollm2", "response": "Hel", "done": False}, GENERATED]))
    return desk.client.generate("smollm2", "hi", stream=True)


JOURNEYS = [
    Journey("chat", _chat),
    Journey("async chat", _async_chat),
    Journey("generate", _generate),
    Journey("embed", _embed),
    Journey("404", _refused),
    Journey("error inside a stream", _broken_inside),
]
STREAMS = [
    Stream("chat", _open_chat, plain),
    Stream("async chat", _open_async_chat, plain, is_async=True, close="aclose"),
    Stream("generate", _open_generate, plain),
]


def _arguments() -> dict[str, Any]:
    return {
        "model": "smollm2",
        "messages": [
            *copy.deepcopy(MESSAGES),
            {"role": "user", "content": "this", "images": [b"png"]},
            {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            {"role": "tool", "tool_name": "f", "content": "42"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        "options": {"seed": 1, "stop": ["a"]},
        "format": "json",
        "think": True,
    }


ASKS = [
    Ask("chat", lambda desk, asked: desk.client.chat(**asked), _arguments, json_reply(ANSWER)),
    Ask(
        "streamed chat",
        lambda desk, asked: list(desk.client.chat(stream=True, **asked)),
        lambda: {"model": "smollm2", "messages": copy.deepcopy(MESSAGES)},
        ndjson_reply(STREAM),
    ),
    Ask(
        "generate",
        lambda desk, asked: desk.client.generate(**asked),
        lambda: {"model": "m", "prompt": "hi", "system": "be brief", "images": [b"png"], "options": {"seed": 1}},
        json_reply(GENERATED),
    ),
    Ask(
        "embed",
        lambda desk, asked: desk.client.embed(**asked),
        lambda: {"model": "e", "input": ["a", "b"]},
        json_reply(EMBEDDED),
    ),
]
