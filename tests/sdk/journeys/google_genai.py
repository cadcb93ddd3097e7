"""Google's library: what its users do."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import httpx2
from google import genai
from google.genai import types

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_google_genai import ANSWER, CALL, CHUNKS, CONTENTS, HEAD, TEXT_ANSWER, USAGE, _candidate

LIBRARY = "google_genai"
CALLING = {**HEAD, "candidates": [_candidate(CALL, finish="STOP")], "usageMetadata": USAGE}


class Desk:
    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        # given a client, the library leaves aiohttp alone, which warns of what the library does with it
        self.http = httpx2.AsyncClient()
        knows_clients = "httpx_async_client" in genai.types.HttpOptions.model_fields
        options = {"base_url": peer.url, **({"httpx_async_client": self.http} if knows_clients else {})}
        self.client = genai.Client(api_key="k", http_options=options)

    def close(self) -> None:
        self.loop.run_until_complete(self.http.aclose())
        if hasattr(self.client, "close"):
            self.client.close()


def plain(value: Any) -> Any:
    return value.model_dump(exclude_none=True, exclude={"sdk_http_response"})


def weather(city: str) -> str:
    """The weather of a city."""
    return f"12 degrees in {city}"


def _generate(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.client.models.generate_content(model="m", contents=CONTENTS))


def _async_generate(desk: Desk) -> Any:
    desk.peer.says(json_reply(ANSWER))
    return plain(desk.loop.run_until_complete(desk.client.aio.models.generate_content(model="m", contents="hi")))


def _function(desk: Desk) -> Any:
    desk.peer.says(json_reply(CALLING), json_reply(TEXT_ANSWER))
    config = types.GenerateContentConfig(tools=[weather], system_instruction="be brief")
    return plain(desk.client.models.generate_content(model="m", contents="hi", config=config))


def _embed(desk: Desk) -> Any:
    desk.peer.says(json_reply({"embeddings": [{"values": [0.1, 0.2]}]}))
    return plain(desk.client.models.embed_content(model="gemini-embedding-001", contents="hi"))


def _async_embed(desk: Desk) -> Any:
    desk.peer.says(json_reply({"embeddings": [{"values": [0.1, 0.2]}]}))
    return plain(
        desk.loop.run_until_complete(desk.client.aio.models.embed_content(model="gemini-embedding-001", contents="hi"))
    )


def _chat(desk: Desk) -> Any:
    desk.peer.says(json_reply(TEXT_ANSWER))
    chat = desk.client.chats.create(model="m")
    answers = [plain(chat.send_message("hi")), plain(chat.send_message("and now?"))]
    return answers, [content.model_dump(exclude_none=True) for content in chat.get_history()]


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}}, 429))
    return desk.client.models.generate_content(model="m", contents="hi")


def _wrongly_called(desk: Desk) -> Any:
    return desk.client.models.generate_content(model="m", contents=[3])


def _cut(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS[:3], done=False, cut=True))
    received = []
    try:
        for chunk in desk.client.models.generate_content_stream(model="m", contents="hi"):
            received.append(plain(chunk))
    except Exception as error:
        received.append(type(error).__name__)
    return received


def _open(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS, done=False))
    return desk.client.models.generate_content_stream(model="m", contents="hi")


async def _open_async(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS, done=False))
    return await desk.client.aio.models.generate_content_stream(model="m", contents="hi")


JOURNEYS = [
    Journey("generate", _generate),
    Journey("async generate", _async_generate),
    Journey("function", _function, calls=2),
    Journey("embed", _embed),
    Journey("async embed", _async_embed),
    Journey("chat", _chat, calls=2),
    Journey("429", _refused),
    Journey("wrong arguments", _wrongly_called),
    Journey("cut stream", _cut),
]
STREAMS = [
    Stream("generate", _open, plain, has_span_unopened=False),
    Stream("async generate", _open_async, plain, is_async=True, close="aclose", has_span_unopened=False),
]


def _arguments() -> dict[str, Any]:
    return {
        "model": "m",
        "contents": copy.deepcopy(CONTENTS),
        "config": {
            "temperature": 0.5,
            "stop_sequences": ["a"],
            "system_instruction": "be brief",
            "tools": [{"function_declarations": [{"name": "weather", "description": "of a city"}]}],
        },
    }


ASKS = [
    Ask("generate", lambda desk, asked: desk.client.models.generate_content(**asked), _arguments, json_reply(ANSWER)),
    Ask(
        "streamed",
        lambda desk, asked: list(desk.client.models.generate_content_stream(**asked)),
        lambda: {"model": "m", "contents": ["hi", {"text": "ho"}]},
        sse_reply(CHUNKS, done=False),
    ),
    Ask(
        "embed",
        lambda desk, asked: desk.client.models.embed_content(**asked),
        lambda: {"model": "gemini-embedding-001", "contents": ["a", "b"]},
        json_reply({"embeddings": [{"values": [0.1, 0.2]}, {"values": [0.1, 0.2]}]}),
    ),
]
