"""Cohere's library: what its users do."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import cohere
import httpx

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, json_reply, ndjson_reply, sse_reply
from sdk.test_cohere import ANSWER, EMBEDDED, EVENTS, LEGACY_ANSWER, LEGACY_EVENTS, MESSAGES, RANKED, TOOLS, _options

LIBRARY = "cohere"


class Desk:
    """Clients are made anew for each use, since one binds its own methods when it is made; connections are shared."""

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        self._options = _options(peer)
        self._http, self._ahttp = httpx.Client(), httpx.AsyncClient()

    @property
    def client(self) -> Any:
        return cohere.ClientV2(**self._options, httpx_client=self._http)

    @property
    def legacy(self) -> Any:
        return cohere.Client(**self._options, httpx_client=self._http)

    @property
    def aclient(self) -> Any:
        return cohere.AsyncClientV2(**self._options, httpx_client=self._ahttp)

    def close(self) -> None:
        self._http.close()
        self.loop.run_until_complete(self._ahttp.aclose())


def plain(value: Any) -> Any:
    return value.model_dump(exclude_unset=True)


def _chat(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.client.chat(model="m", messages=MESSAGES, tools=TOOLS, documents=["a fact"]))


def _async_chat(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.loop.run_until_complete(desk.aclient.chat(model="m", messages=MESSAGES)))


def _legacy(desk: Desk) -> Any:
    desk.peer.says(json_reply(LEGACY_ANSWER))
    return plain(desk.legacy.chat(message="hi", model="m", preamble="be brief"))


def _rerank(desk: Desk) -> Any:
    desk.peer.says(json_reply(RANKED))
    return plain(desk.client.rerank(model="m", query="Italy?", documents=["Oslo", "Rome"]))


def _embed(desk: Desk) -> Any:
    desk.peer.says(json_reply(EMBEDDED))
    return plain(desk.client.embed(model="m", input_type="search_query", texts=["a"], embedding_types=["float"]))


def _generate(desk: Desk) -> Any:
    desk.peer.says(json_reply({"id": "g1", "generations": [{"id": "x", "text": "Hello"}]}))
    return plain(desk.legacy.generate(prompt="hi", model="m"))


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"message": "slow down"}, 429))
    try:
        return desk.client.chat(model="m", messages=MESSAGES)
    except cohere.TooManyRequestsError as error:
        return error.status_code, error.body  # its text has the date of the answer


def _wrongly_called(desk: Desk) -> Any:
    return desk.client.chat(model="m")


def _cut(desk: Desk) -> Any:
    desk.peer.says(sse_reply(EVENTS[:3], named=True, done=False, cut=True))
    received = []
    try:
        for event in desk.client.chat_stream(model="m", messages=MESSAGES):
            received.append(plain(event))
    except Exception as error:
        received.append(type(error).__name__)
    return received


def _open(desk: Desk) -> Any:
    desk.peer.says(sse_reply(EVENTS, named=True))
    return desk.client.chat_stream(model="m", messages=MESSAGES)


async def _open_async(desk: Desk) -> Any:
    desk.peer.says(sse_reply(EVENTS, named=True))
    return desk.aclient.chat_stream(model="m", messages=MESSAGES)


def _open_legacy(desk: Desk) -> Any:
    desk.peer.says(ndjson_reply(LEGACY_EVENTS))
    return desk.legacy.chat_stream(message="hi", model="m")


JOURNEYS = [
    Journey("chat", _chat),
    Journey("async chat", _async_chat),
    Journey("legacy chat", _legacy),
    Journey("rerank", _rerank),
    Journey("embed", _embed),
    Journey("generate", _generate),
    Journey("429", _refused),
    Journey("wrong arguments", _wrongly_called),
    Journey("cut stream", _cut),
]
STREAMS = [
    Stream("chat", _open, plain),
    Stream("async chat", _open_async, plain, is_async=True, close="aclose"),
    Stream("legacy chat", _open_legacy, plain),
]


def _arguments() -> dict[str, Any]:
    return {
        "model": "m",
        "messages": copy.deepcopy(MESSAGES),
        "tools": copy.deepcopy(TOOLS),
        "documents": ["a fact", {"id": "d1", "data": {"text": "another"}}],
        "stop_sequences": ["a"],
        "temperature": 0.5,
        "response_format": {"type": "json_object"},
    }


ASKS = [
    Ask("chat", lambda desk, asked: desk.client.chat(**asked), _arguments, json_reply(ANSWER)),
    Ask(
        "streamed chat",
        lambda desk, asked: list(desk.client.chat_stream(**asked)),
        lambda: {"model": "m", "messages": copy.deepcopy(MESSAGES)},
        sse_reply(EVENTS, named=True),
    ),
    Ask(
        "rerank",
        lambda desk, asked: desk.client.rerank(**asked),
        lambda: {"model": "m", "query": "Italy?", "documents": ["Oslo", "Rome"]},
        json_reply(RANKED),
    ),
    Ask(
        "embed",
        lambda desk, asked: desk.client.embed(**asked),
        lambda: {"model": "m", "input_type": "search_query", "texts": ["a"], "embedding_types": ["float"]},
        json_reply(EMBEDDED),
    ),
    Ask(
        "legacy chat",
        lambda desk, asked: desk.legacy.chat(**asked),
        lambda: {
            "model": "m",
            "message": "hi",
            "preamble": "brief",
            "chat_history": [{"role": "USER", "message": "a"}],
        },
        json_reply(LEGACY_ANSWER),
    ),
]
