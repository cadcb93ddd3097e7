"""A peer with Ollama's REST shape over a llama.cpp server: `python ollama_shaped.py PORT http://llama.cpp`.

It is not Ollama. Every token, count and duration is llama.cpp's own; this file adds routes, field names,
nanoseconds and newline-delimited JSON (shapes: ollama/ollama `docs/openapi.yaml`). It proves the client's side of an
integration and nothing about the Ollama server. No embed, no model management, no keep-alive.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL = "smollm2"
OPTIONS = {"num_predict": "max_tokens", "temperature": "temperature", "top_p": "top_p", "seed": "seed", "stop": "stop"}


def _request(body: dict[str, Any], *, chat: bool) -> tuple[str, dict[str, Any]]:
    """The llama.cpp route and body that answer an Ollama request."""
    options = body.get("options") or {}
    asked = {theirs: options[ours] for ours, theirs in OPTIONS.items() if ours in options}
    asked |= {"stream": True, "stream_options": {"include_usage": True}}
    system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    asked["messages"] = body["messages"] if chat else [*system, {"role": "user", "content": body["prompt"]}]
    return "/v1/chat/completions", asked


def _line(chat: bool, text: str, **extra: Any) -> dict[str, Any]:
    now = dt.datetime.now(dt.timezone.utc).isoformat().replace("+00:00", "Z")
    content = {"message": {"role": "assistant", "content": text}} if chat else {"response": text}
    return {"model": MODEL, "created_at": now, **content, "done": False, **extra}


def _end(started_ns: int, reason: str | None, usage: dict[str, Any], timings: dict[str, Any]) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": reason or "stop",
        "total_duration": time.perf_counter_ns() - started_ns,
        "load_duration": 1000,  # llama.cpp has the model loaded already
        "prompt_eval_count": usage["prompt_tokens"],
        "prompt_eval_cached_count": usage["prompt_tokens_details"]["cached_tokens"],
        "prompt_eval_duration": int(timings["prompt_ms"] * 1e6),
        "eval_count": usage["completion_tokens"],
        "eval_duration": int(timings["predicted_ms"] * 1e6),
    }


class Peer:
    """The routes, over one llama.cpp server."""

    def __init__(self, upstream: str) -> None:
        # llama.cpp drops idle connections; a reused one may be gone just when it is needed
        limits = httpx.Limits(max_keepalive_connections=0)
        self.client = httpx.AsyncClient(base_url=upstream, timeout=120, limits=limits)
        routes = [
            Route("/api/chat", self.chat, methods=["POST"]),
            Route("/api/generate", self.generate, methods=["POST"]),
            Route("/api/version", self.version),
        ]
        self.app = Starlette(routes=routes)

    async def chat(self, request: Request) -> Response:
        return await self._answer(await request.json(), chat=True)

    async def generate(self, request: Request) -> Response:
        return await self._answer(await request.json(), chat=False)

    async def version(self, _request: Request) -> Response:
        return JSONResponse({"version": "0.0.0-llama.cpp"})

    async def _answer(self, body: dict[str, Any], *, chat: bool) -> Response:
        if body.get("model", "").partition(":")[0] != MODEL:
            return JSONResponse({"error": f"model '{body.get('model')}' not found"}, 404)
        lines = self._lines(body, chat=chat)
        if body.get("stream", True):
            ndjson = (json.dumps(line) + "\n" async for line in lines)
            return StreamingResponse(ndjson, media_type="application/x-ndjson")
        *parts, last = [line async for line in lines]
        text = "".join(part["message"]["content"] if chat else part["response"] for part in parts)
        return JSONResponse({**last, **_line(chat, text), "done": True})

    async def _lines(self, body: dict[str, Any], *, chat: bool) -> AsyncIterator[dict[str, Any]]:
        started_ns = time.perf_counter_ns()
        route, asked = _request(body, chat=chat)
        reason, usage, timings = None, {}, {}
        async with self.client.stream("POST", route, json=asked) as upstream:
            async for line in upstream.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line.removeprefix("data: "))
                usage, timings = chunk.get("usage") or usage, chunk.get("timings") or timings
                for choice in chunk["choices"]:
                    reason = choice.get("finish_reason") or reason
                    if text := choice["delta"].get("content"):
                        yield _line(chat, text)
        yield _line(chat, "", **_end(started_ns, reason, usage, timings))


async def _main(port: int, upstream: str) -> None:
    server = uvicorn.Server(uvicorn.Config(Peer(upstream).app, host="127.0.0.1", port=port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("listening", flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), sys.argv[2]))
