"""Anthropic's library: what its users do."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import anthropic

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, json_reply, sse_reply
from sdk.test_anthropic import ASKED, MESSAGE
from sdk.test_anthropic_streams import EVENTS, SHORT

LIBRARY = "anthropic"
EVENTS_REPLY = sse_reply(EVENTS, done=False, named=True)


class Desk:
    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        self.peer, self.loop = peer, loop
        options: Any = {"api_key": "k", "base_url": peer.url, "max_retries": 0}
        self.client, self.aclient = anthropic.Anthropic(**options), anthropic.AsyncAnthropic(**options)

    def close(self) -> None:
        self.client.close()
        self.loop.run_until_complete(self.aclient.close())


def plain(value: Any) -> Any:
    return value.model_dump(exclude_unset=True, warnings=False)  # the oldest versions do not know every kind of block


def _create(desk: Desk) -> Any:
    desk.peer.says(json_reply(MESSAGE))
    return plain(desk.client.messages.create(**ASKED, system="be brief"))


def _async_create(desk: Desk) -> Any:
    desk.peer.says(json_reply(MESSAGE))
    return plain(desk.loop.run_until_complete(desk.aclient.messages.create(**ASKED)))


def _beta(desk: Desk) -> Any:
    desk.peer.says(json_reply(MESSAGE))
    return plain(desk.client.beta.messages.create(**ASKED))


def _count(desk: Desk) -> Any:
    desk.peer.says(json_reply({"input_tokens": 12}))
    return plain(desk.client.messages.count_tokens(model="m", messages=[]))


def _helper(desk: Desk) -> Any:
    desk.peer.says(EVENTS_REPLY)
    with desk.client.messages.stream(**ASKED) as stream:
        return list(stream.text_stream), plain(stream.get_final_message())


def _async_helper(desk: Desk) -> Any:
    async def run() -> Any:
        async with desk.aclient.messages.stream(**ASKED) as stream:
            return [text async for text in stream.text_stream], plain(await stream.get_final_message())

    desk.peer.says(EVENTS_REPLY)
    return desk.loop.run_until_complete(run())


def _raw(desk: Desk) -> Any:
    desk.peer.says(json_reply(MESSAGE))
    return plain(desk.client.messages.with_raw_response.create(**ASKED).parse())


def _streaming(desk: Desk) -> Any:
    desk.peer.says(json_reply(MESSAGE))
    with desk.client.messages.with_streaming_response.create(**ASKED) as response:
        return response.json()


def _raw_stream(desk: Desk) -> Any:
    desk.peer.says(EVENTS_REPLY)
    with desk.client.messages.with_streaming_response.create(**ASKED, stream=True) as response:
        return list(response.iter_lines())


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, 429))
    return desk.client.messages.create(**ASKED)


def _wrongly_called(desk: Desk) -> Any:
    return desk.client.messages.create(model="m")


def _cut(desk: Desk) -> Any:
    desk.peer.says(sse_reply(SHORT, done=False, named=True, cut=True))
    received = []
    try:
        for event in desk.client.messages.create(**ASKED, stream=True):
            received.append(plain(event))
    except Exception as error:
        received.append(type(error).__name__)
    return received


def _open(desk: Desk) -> Any:
    desk.peer.says(EVENTS_REPLY)
    return desk.client.messages.create(**ASKED, stream=True)


async def _open_async(desk: Desk) -> Any:
    desk.peer.says(EVENTS_REPLY)
    return await desk.aclient.messages.create(**ASKED, stream=True)


def _open_helper(desk: Desk) -> Any:
    desk.peer.says(EVENTS_REPLY)
    return desk.client.messages.stream(**ASKED).__enter__()


async def _open_async_helper(desk: Desk) -> Any:
    desk.peer.says(EVENTS_REPLY)
    return await desk.aclient.messages.stream(**ASKED).__aenter__()


def _open_raw(desk: Desk) -> Any:
    desk.peer.says(EVENTS_REPLY)
    return desk.client.messages.with_raw_response.create(**ASKED, stream=True).parse()


JOURNEYS = [
    Journey("create", _create),
    Journey("async create", _async_create),
    Journey("beta", _beta),
    Journey("count tokens", _count, calls=0),
    Journey("stream helper", _helper),
    Journey("async stream helper", _async_helper),
    Journey("raw response", _raw),
    Journey("streaming response", _streaming),
    Journey("lines of a streaming response", _raw_stream),
    Journey("429", _refused),
    Journey("wrong arguments", _wrongly_called, calls=0),
    Journey("cut stream", _cut),
]
STREAMS = [
    Stream("create", _open, plain),
    Stream("async create", _open_async, plain, is_async=True),
    Stream("helper", _open_helper, plain),
    Stream("async helper", _open_async_helper, plain, is_async=True),
    Stream("raw", _open_raw, plain),
]


def _arguments() -> dict[str, Any]:
    return {
        **copy.deepcopy(ASKED),
        "system": [{"type": "text", "text": "be brief"}],
        "tools": [{"name": "weather", "input_schema": {"type": "object"}}],
        "stop_sequences": ["a"],
        "metadata": {"user_id": "u"},
        "extra_body": {"x": 1},
        "extra_headers": {"x-mine": "1"},
    }


ASKS = [
    Ask("create", lambda desk, asked: desk.client.messages.create(**asked), _arguments, json_reply(MESSAGE)),
    Ask(
        "streamed",
        lambda desk, asked: list(desk.client.messages.create(stream=True, **asked)),
        lambda: {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
        EVENTS_REPLY,
    ),
]
