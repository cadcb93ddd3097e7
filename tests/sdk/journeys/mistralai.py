"""Mistral's library: what its users do."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

try:
    from mistralai.client import Mistral
except ImportError:  # where it was before 2.0
    from mistralai import Mistral

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_mistralai import ANSWER, CHUNKS, EMBEDDING, MESSAGES, TOOLS

LIBRARY = "mistralai"


class Desk:
    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        self.client = Mistral(api_key="k", server_url=peer.url)

    def close(self) -> None:
        self.client.__exit__(None, None, None)
        self.loop.run_until_complete(self.client.__aexit__(None, None, None))


def plain(value: Any) -> Any:
    return value.model_dump()


def _complete(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.client.chat.complete(model="m", messages=MESSAGES, tools=TOOLS))


def _async_complete(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.loop.run_until_complete(desk.client.chat.complete_async(model="m", messages=MESSAGES)))


def _agent(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.client.agents.complete(agent_id="a1", messages=MESSAGES))


def _fim(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.client.fim.complete(model="codestral", prompt="def f(", suffix="return 1"))


def _embed(desk: Desk) -> Any:
    desk.peer.says(json_reply(EMBEDDING))
    return plain(desk.client.embeddings.create(model="e", inputs=["a", "b"]))


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"message": "slow down"}, 429))
    return desk.client.chat.complete(model="m", messages=MESSAGES)


def _wrongly_called(desk: Desk) -> Any:
    return desk.client.chat.complete(model="m")


def _cut(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS[:3], done=False, cut=True))
    received = []
    try:
        for event in desk.client.chat.stream(model="m", messages=MESSAGES):
            received.append(plain(event))
    except Exception as error:
        received.append(type(error).__name__)
    return received


def _open(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return desk.client.chat.stream(model="m", messages=MESSAGES)


async def _open_async(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return await desk.client.chat.stream_async(model="m", messages=MESSAGES)


def _open_fim(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return desk.client.fim.stream(model="codestral", prompt="def f(")


JOURNEYS = [
    Journey("complete", _complete),
    Journey("async complete", _async_complete),
    Journey("agent", _agent),
    Journey("fill in the middle", _fim),
    Journey("embed", _embed),
    Journey("429", _refused),
    Journey("wrong arguments", _wrongly_called),
    Journey("cut stream", _cut),
]
STREAMS = [
    Stream("chat", _open, plain),
    Stream("async chat", _open_async, plain, is_async=True),
    Stream("fill in the middle", _open_fim, plain),
]


def _arguments() -> dict[str, Any]:
    return {
        "model": "m",
        "messages": copy.deepcopy(MESSAGES),
        "tools": copy.deepcopy(TOOLS),
        "stop": ["a"],
        "temperature": 0.5,
        "response_format": {"type": "json_object"},
    }


ASKS = [
    Ask("complete", lambda desk, asked: desk.client.chat.complete(**asked), _arguments, json_reply(ANSWER)),
    Ask(
        "streamed",
        lambda desk, asked: list(desk.client.chat.stream(**asked)),
        lambda: {"model": "m", "messages": copy.deepcopy(MESSAGES)},
        sse_reply(CHUNKS),
    ),
    Ask(
        "embed",
        lambda desk, asked: desk.client.embeddings.create(**asked),
        lambda: {"model": "e", "inputs": ["a", "b"]},
        json_reply(EMBEDDING),
    ),
]
