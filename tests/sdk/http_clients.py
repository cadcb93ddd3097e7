"""Every way to post JSON and to read what comes back, with httpx, httpx2, requests and aiohttp, as functions to bytes.

Each takes a URL and a body and gives the bytes of the answer, as the user gets them (text encoded again).
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import requests

Post = Callable[[str, Any], bytes]
LIBRARIES = {"httpx": httpx, "requests": requests, "aiohttp": aiohttp}


@dataclass(frozen=True)
class Way:
    """One way to read an answer. `is_raw`: it gives compressed bytes as they are on the wire."""

    name: str
    post: Post
    is_raw: bool = False
    is_whole: bool = False
    """Whether the answer is read inside the sending function, so that nobody knows when its first piece came."""


def _httpx(module: Any) -> list[Way]:
    def post(url: str, body: Any) -> bytes:
        with module.Client() as client:
            return client.post(url, json=body).content

    def function(url: str, body: Any) -> bytes:
        return module.post(url, content=json.dumps(body).encode()).content

    def streaming(read: Callable[[Any], bytes]) -> Post:
        def post(url: str, body: Any) -> bytes:
            with module.Client() as client, client.stream("POST", url, json=body) as response:
                return read(response)

        return post

    name = module.__name__
    return [
        Way(f"{name}-post", post, is_whole=True),
        Way(f"{name}-function", function, is_whole=True),
        Way(f"{name}-read", streaming(lambda r: r.read())),
        Way(f"{name}-iter_bytes", streaming(lambda r: b"".join(r.iter_bytes()))),
        Way(f"{name}-iter_bytes-3", streaming(lambda r: b"".join(r.iter_bytes(3)))),
        Way(f"{name}-iter_text", streaming(lambda r: "".join(r.iter_text()).encode())),
        Way(f"{name}-iter_lines", streaming(lambda r: "".join(f"{line}\n" for line in r.iter_lines()).encode())),
        Way(f"{name}-iter_raw", streaming(lambda r: b"".join(r.iter_raw())), is_raw=True),
    ]


async def _joined(pieces: Any) -> bytes:
    return b"".join([piece if isinstance(piece, bytes) else piece.encode() async for piece in pieces])


async def _lines(lines: Any) -> bytes:
    return "".join([f"{line}\n" async for line in lines]).encode()


def _async_httpx(module: Any) -> list[Way]:
    def post(url: str, body: Any) -> bytes:
        async def run() -> bytes:
            async with module.AsyncClient() as client:
                return (await client.post(url, json=body)).content

        return asyncio.run(run())

    def streaming(read: Callable[[Any], Any]) -> Post:
        def post(url: str, body: Any) -> bytes:
            async def run() -> bytes:
                async with module.AsyncClient() as client, client.stream("POST", url, json=body) as response:
                    return await read(response)

            return asyncio.run(run())

        return post

    name = f"async-{module.__name__}"
    return [
        Way(f"{name}-post", post, is_whole=True),
        Way(f"{name}-aread", streaming(lambda r: r.aread())),
        Way(f"{name}-aiter_bytes", streaming(lambda r: _joined(r.aiter_bytes()))),
        Way(f"{name}-aiter_text", streaming(lambda r: _joined(r.aiter_text()))),
        Way(f"{name}-aiter_lines", streaming(lambda r: _lines(r.aiter_lines()))),
        Way(f"{name}-aiter_raw", streaming(lambda r: _joined(r.aiter_raw())), is_raw=True),
    ]


def _read_all(read: Callable[[], bytes]) -> bytes:
    return b"".join(iter(read, b""))


def _decoded(raw: Any) -> Any:
    raw.decode_content = True
    return raw


def _requests() -> list[Way]:
    def post(url: str, body: Any) -> bytes:
        return requests.post(url, json=body, timeout=20).content

    def streaming(read: Callable[[Any], bytes]) -> Post:
        def post(url: str, body: Any) -> bytes:
            with requests.Session() as session, session.post(url, json=body, stream=True, timeout=20) as response:
                return read(response)

        return post

    def text_lines(response: Any) -> bytes:
        response.encoding = "utf-8"
        return "".join(f"{line}\n" for line in response.iter_lines(decode_unicode=True)).encode()

    return [
        Way("requests-post", post, is_whole=True),
        Way("requests-content", streaming(lambda r: r.content)),
        Way("requests-iter_content", streaming(lambda r: b"".join(r.iter_content(None)))),
        Way("requests-iter_content-1", streaming(lambda r: b"".join(r.iter_content()))),
        Way("requests-iter", streaming(b"".join)),
        Way("requests-iter_lines", streaming(lambda r: b"".join(line + b"\n" for line in r.iter_lines()))),
        Way("requests-text_lines", streaming(text_lines)),
        Way("requests-raw-read", streaming(lambda r: r.raw.read()), is_raw=True),
        Way("requests-raw-read-decoded", streaming(lambda r: r.raw.read(decode_content=True))),
        Way("requests-raw-read-5", streaming(lambda r: _read_all(lambda: r.raw.read(5))), is_raw=True),
        Way("requests-raw-stream", streaming(lambda r: b"".join(r.raw.stream(decode_content=True)))),
        Way("requests-raw-lines", streaming(lambda r: b"".join(_decoded(r.raw)))),
    ]


async def _chunks(content: Any) -> bytes:
    return b"".join([data async for data, _ in content.iter_chunks()])


async def _repeat(read: Callable[[], Any]) -> bytes:
    pieces = [await read()]
    while pieces[-1]:
        pieces.append(await read())
    return b"".join(pieces)


async def _text(response: Any) -> bytes:
    return (await response.text(encoding="utf-8")).encode()


def _aiohttp() -> list[Way]:
    def streaming(read: Callable[[Any], Any], **options: Any) -> Post:
        def post(url: str, body: Any) -> bytes:
            async def run() -> bytes:
                async with aiohttp.ClientSession(**options) as session, session.post(url, json=body) as response:
                    return await read(response)

            return asyncio.run(run())

        return post

    def bytes_of(url: str, body: Any) -> bytes:
        async def run() -> bytes:
            async with aiohttp.request("POST", url, data=json.dumps(body).encode()) as response:
                return await response.read()

        return asyncio.run(run())

    return [
        Way("aiohttp-read", streaming(lambda r: r.read())),
        Way("aiohttp-function", bytes_of),
        Way("aiohttp-text", streaming(_text)),
        Way("aiohttp-iter_any", streaming(lambda r: _joined(r.content.iter_any()))),
        Way("aiohttp-iter_chunked", streaming(lambda r: _joined(r.content.iter_chunked(7)))),
        Way("aiohttp-iter_chunks", streaming(lambda r: _chunks(r.content))),
        Way("aiohttp-iter", streaming(lambda r: _joined(r.content))),
        Way("aiohttp-readline", streaming(lambda r: _repeat(r.content.readline))),
        Way("aiohttp-read-5", streaming(lambda r: _repeat(lambda: r.content.read(5)))),
        Way("aiohttp-undecoded", streaming(lambda r: r.read(), auto_decompress=False), is_raw=True),
    ]


def _second_httpx() -> list[Any]:
    try:
        return [importlib.import_module("httpx2")]
    except ImportError:
        return []


WAYS = [
    *(way for module in [httpx, *_second_httpx()] for make in (_httpx, _async_httpx) for way in make(module)),
    *_requests(),
    *_aiohttp(),
]
WHOLE = [way for way in WAYS if way.name.endswith(("-post", "aiohttp-read"))]
"""One way each, synchronous and asynchronous, to post and to read at once."""
