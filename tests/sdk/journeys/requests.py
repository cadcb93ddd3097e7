"""requests: what users do who call a model API by hand."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from typing import Any

import requests

from sdk.journeys import Ask, Journey, Stream
from sdk.server import Peer, Reply, json_reply, ndjson_reply, sse_reply
from sdk.test_ollama import STREAM
from sdk.test_openai import CHUNKS, COMPLETION, MESSAGES

LIBRARY = "requests"
CHAT = {"model": "m", "messages": MESSAGES}
STREAMED = {**CHAT, "stream": True}


class Desk:
    def __init__(self, peer: Peer, _loop: asyncio.AbstractEventLoop) -> None:
        self.peer = peer
        self.url = f"{peer.url}/v1/chat/completions"
        self.session = requests.Session()

    def close(self) -> None:
        self.session.close()


def plain(value: Any) -> Any:
    return value


def _plain(response: Any) -> Any:
    return response.status_code, response.reason, response.json(), sorted(response.request.headers)


def _post(desk: Desk) -> Any:
    desk.peer.says(json_reply(COMPLETION))
    return _plain(desk.session.post(desk.url, json=CHAT, headers={"X-Mine": "1"}))


def _other(desk: Desk) -> Any:
    desk.peer.says(json_reply({"ok": True}))
    return _plain(desk.session.post(f"{desk.peer.url}/other", json=CHAT))


def _refused(desk: Desk) -> Any:
    desk.peer.says(json_reply({"error": {"message": "slow down"}}, 429))
    return _plain(desk.session.post(desk.url, json=CHAT))


def _raised(desk: Desk) -> Any:
    desk.peer.says(json_reply({"error": {"message": "no"}}, 500))
    desk.session.post(desk.url, json=CHAT).raise_for_status()


def _redirected(desk: Desk) -> Any:
    desk.peer.says(Reply(307, {"Location": "/v1/chat/completions"}), json_reply(COMPLETION))
    response = desk.session.post(desk.url, json=CHAT)
    return _plain(response), [past.status_code for past in response.history]


def _unreachable(desk: Desk) -> Any:
    try:
        return desk.session.post("http://127.0.0.1:9/v1/chat/completions", json=CHAT)
    except requests.ConnectionError as error:  # its text has an address in memory
        return type(error).__name__


def _pickled(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    with desk.session.post(desk.url, json=STREAMED, stream=True) as response:
        return pickle.loads(pickle.dumps(response)).text


def _read_twice(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    with desk.session.post(desk.url, json=STREAMED, stream=True) as response:
        list(response.iter_content(None))
        return list(response.iter_content(None))


def _content_then_lines(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    with desk.session.post(desk.url, json=STREAMED, stream=True) as response:
        return response.content, list(response.iter_lines())


def _cut(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS[:2], done=False, cut=True))
    received: list[Any] = []
    try:
        with desk.session.post(desk.url, json=STREAMED, stream=True) as response:
            received.extend(response.iter_lines())
    except requests.RequestException as error:
        received.append((type(error).__name__, str(error)))
    return received


def _open_lines(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return desk.session.post(desk.url, json=STREAMED, stream=True).iter_lines()


def _open_content(desk: Desk) -> Any:
    desk.peer.says(sse_reply(CHUNKS))
    return desk.session.post(desk.url, json=STREAMED, stream=True).iter_content(64)


def _open_raw(desk: Desk) -> Any:
    desk.peer.says(ndjson_reply(STREAM))
    return desk.session.post(f"{desk.peer.url}/api/chat", json=CHAT, stream=True).raw.stream(64)


JOURNEYS = [
    Journey("post", _post),
    Journey("another request", _other, calls=0),
    Journey("429", _refused),
    Journey("raise for status", _raised),
    Journey("redirect", _redirected),
    Journey("unreachable", _unreachable),
    Journey("pickled", _pickled),
    Journey("read twice", _read_twice),
    Journey("content, then lines", _content_then_lines),
    Journey("cut stream", _cut),
]
STREAMS = [
    Stream("lines", _open_lines, plain),
    Stream("content", _open_content, plain),
    Stream("raw", _open_raw, plain),
]


ASKS = [
    Ask(
        "post",
        lambda desk, asked: desk.session.post(desk.url, **asked).content,
        lambda: {"json": copy.deepcopy(CHAT), "headers": {"x-mine": "1"}},
        json_reply(COMPLETION),
    ),
    Ask(
        "data",
        lambda desk, asked: desk.session.post(desk.url, **asked).content,
        lambda: {"data": json.dumps(CHAT).encode()},
        json_reply(COMPLETION),
    ),
    Ask(
        "stream",
        lambda desk, asked: desk.session.post(desk.url, **asked).content,
        lambda: {"json": copy.deepcopy(STREAMED)},
        sse_reply(CHUNKS),
    ),
]
