"""Requests for the ingest bench: traces of eight spans as an agent that calls models and tools sends them."""

from __future__ import annotations

import gzip
import json
import random
import sysconfig
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def texts() -> list[str]:
    """About 3,000 pieces of English and code, 1.5 KB each."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:120]
    text = "".join(file.read_text(errors="ignore") for file in files)
    return [text[start : start + 1500] for start in range(0, min(len(text), 4_500_000), 1500)]


def request(chance: random.Random, pool: list[str], spans: int, now_ns: int) -> bytes:
    """One gzipped request of `spans` spans that began within the last minute."""
    message = ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    for key, value in RESOURCE.items():
        attribute(resource_spans.resource.attributes, key, value)
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "bench"
    trace_id = root = b""
    for number in range(spans):
        if number % 8 == 0:
            trace_id, root = chance.randbytes(16), chance.randbytes(8)
        start = now_ns - chance.randrange(60 * 10**9)
        span = scope_spans.spans.add(trace_id=trace_id, span_id=chance.randbytes(8) if number % 8 else root, kind=3)
        span.start_time_unix_nano, span.end_time_unix_nano = start, start + chance.randrange(10**6, 5 * 10**9)
        if number % 8:
            span.parent_span_id = root
        KINDS[number % 8](span, chance, pool)
    return gzip.compress(message.SerializeToString(), 6)


def llm(span: Any, chance: random.Random, pool: list[str]) -> None:
    """A chat call with 20 attributes."""
    model = chance.choice(["gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5", "qwen3-32b"])
    span.name = f"chat {model}"
    text, answer = chance.choice(pool), chance.choice(pool)[:900]
    messages = [{"role": "user", "parts": [{"type": "text", "content": text}]}]
    said = {"role": "assistant", "parts": [{"type": "text", "content": answer}], "finish_reason": "stop"}
    values: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic" if model.startswith("claude") else "openai",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.response.id": f"chatcmpl-{chance.randrange(10**12)}",
        "gen_ai.request.temperature": 0.2,
        "gen_ai.request.max_tokens": 512,
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": chance.random() / 1000,
        "gen_ai.usage.input_tokens": chance.randrange(100, 3000),
        "gen_ai.usage.output_tokens": chance.randrange(10, 600),
        "gen_ai.usage.cache_read.input_tokens": chance.randrange(100),
        "gen_ai.input.messages": json.dumps(messages),
        "gen_ai.output.messages": json.dumps([said]),
        "server.address": "api.openai.com",
        "session.id": f"chat-{chance.randrange(5000)}",
        "user.id": f"user-{chance.randrange(500)}",
        "gen_ai.prompt.name": "support",
        "gen_ai.prompt.version": "3",
    }
    for key, value in values.items():
        attribute(span.attributes, key, value)
    span.attributes.add(key="gen_ai.response.finish_reasons").value.array_value.values.add(string_value="stop")


def tool(span: Any, chance: random.Random, _pool: list[str]) -> None:
    """A tool call with eight attributes."""
    span.name = "execute_tool lookup_order"
    values: dict[str, Any] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "lookup_order",
        "gen_ai.tool.call.id": f"call_{chance.randrange(10**9)}",
        "gen_ai.tool.call.arguments": '{"order_id": "88213"}',
        "gen_ai.tool.call.result": '{"status": "shipped", "due": "tomorrow"}',
        "session.id": f"chat-{chance.randrange(5000)}",
        "team": chance.choice(["a", "b", "c"]),
        "attempt": chance.randrange(3),
    }
    for key, value in values.items():
        attribute(span.attributes, key, value)


def retrieval(span: Any, chance: random.Random, pool: list[str]) -> None:
    """A search that found three pieces of text."""
    span.name = "retrieval handbook"
    found = [{"id": f"d{n}", "score": chance.random(), "content": chance.choice(pool)[:300]} for n in range(3)]
    values: dict[str, Any] = {
        "gen_ai.operation.name": "retrieval",
        "gen_ai.data_source.id": "handbook",
        "gen_ai.retrieval.query.text": chance.choice(pool)[:80],
        "gen_ai.retrieval.documents": json.dumps(found),
        "session.id": f"chat-{chance.randrange(5000)}",
        "top_k": 3,
    }
    for key, value in values.items():
        attribute(span.attributes, key, value)


def http_call(span: Any, chance: random.Random, _pool: list[str]) -> None:
    """An HTTP client's span."""
    span.name = "POST"
    values: dict[str, Any] = {
        "http.request.method": "POST",
        "url.full": f"https://api.example.com/orders/{chance.randrange(10**6)}",
        "server.address": "api.example.com",
        "server.port": 443,
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "user_agent.original": "python-httpx/0.28",
    }
    for key, value in values.items():
        attribute(span.attributes, key, value)


def agent(span: Any, chance: random.Random, _pool: list[str]) -> None:
    """The agent's own span: the root."""
    span.name = "invoke_agent support"
    values: dict[str, Any] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "support",
        "gen_ai.conversation.id": f"chat-{chance.randrange(5000)}",
        "user.id": f"user-{chance.randrange(500)}",
    }
    for key, value in values.items():
        attribute(span.attributes, key, value)


def attribute(target: Any, key: str, value: Any) -> None:
    """Append one attribute of the value's own type."""
    kind = {bool: "bool_value", int: "int_value", float: "double_value", str: "string_value"}[type(value)]
    setattr(target.add(key=key).value, kind, value)


KINDS = (agent, llm, retrieval, llm, tool, http_call, llm, tool)
RESOURCE = {
    "service.name": "bench",
    "service.version": "1.4.2",
    "deployment.environment.name": "production",
    "telemetry.sdk.name": "opentelemetry",
    "telemetry.sdk.language": "python",
    "telemetry.sdk.version": "1.45.2",
}
