"""Classify: what kind of work a span is, whose model did it, under the names we keep (vocabulary.py)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from limelight import semconv as s
from limelight_collector import dialects, vocabulary
from limelight_collector.attributes import parsed
from limelight_collector.content import MODEL_TYPES

Row = dict[str, Any]

_LOGFIRE_ANSWERS = frozenset({s.OUTPUT_MESSAGES, "response_data"})
_PLAIN = frozenset(vocabulary.HOSTS.values()) | {"ollama", "vllm", "azure"}


def observation_type(attributes: dict[str, Any], span: Span, scope_name: str, found: Row) -> str:
    """The `observation_type`: a dialect's own word for it, else what the operation says, else a model with usage."""
    if scope_name in vocabulary.TOLD_AT_THE_END and _opens_stream(attributes, span, found):
        return "span"
    for key in dialects.KIND_KEYS:
        if key in attributes:
            kind = vocabulary.KINDS.get(str(parsed(attributes[key])).lower())
            if kind:
                return kind
    vercel = attributes.get("ai.operationId")
    if isinstance(vercel, str):
        return vocabulary.VERCEL_OPERATIONS.get(vercel.rpartition(".")[2], "chain")
    if span.name == "llm_request" or scope_name in vocabulary.ENGINE_SCOPES:
        return "engine"
    if found.get("mcp_method") == "tools/call":
        return "tool"
    operation = str(found.get("operation", "")).lower()
    if operation in vocabulary.OPERATIONS:
        return vocabulary.OPERATIONS[operation]
    if operation.endswith(("_memory", "_memory_store")):
        return "memory"
    kind = attributes.get(s.LIMELIGHT_KIND) or attributes.get("llm.request.type")
    if isinstance(kind, str) and kind.lower() in vocabulary.KINDS:
        return vocabulary.KINDS[kind.lower()]
    has_model = "request_model" in found or "response_model" in found
    return "llm" if has_model and ("input_tokens" in found or "output_tokens" in found) else "span"


def operation(row: Row, attributes: dict[str, Any]) -> str:
    """The operation: as named, unless the kind of the span says that it is none of that; else what its kind does."""
    given, kind = row.get("operation", ""), row["observation_type"]
    if not given and kind == "llm" and attributes.get("llm.request.type") == "completion":
        given = "completion"
    given = vocabulary.OPERATION_NAMES.get(given, given)
    usual = vocabulary.TYPE_OPERATIONS.get(kind, "")
    told = vocabulary.OPERATIONS.get(given.lower(), kind)  # LangSmith: embeddings for a retriever, chat for a prompt
    return usual if not given or (told != kind and kind not in ("engine", "span")) else given


def _opens_stream(attributes: dict[str, Any], span: Span, found: Row) -> bool:
    """Whether this is Logfire's span of a streamed request: the call is the span of the stream that follows it."""
    answered = "output_tokens" in found or "input_tokens" in found or _LOGFIRE_ANSWERS & attributes.keys()
    is_span = attributes.get("logfire.span_type") == "span"
    return is_span and not answered and span.status.code != Status.STATUS_CODE_ERROR


def name_model(row: Row) -> None:
    """Provider, models and server in their canonical words."""
    address = row.get("server_address", "")
    if "://" in address:
        address = row["server_address"] = _host(address)
    if row["scope_name"] == "litellm":
        _split_litellm(row)
    provider = row.get("provider", "").lower()
    folded = vocabulary.PROVIDERS.get(provider) or vocabulary.PROVIDERS.get(provider.partition(".")[0])
    provider = folded or provider
    if provider.startswith(("openai.", "anthropic.")):  # Vercel: openai.chat, openai.responses, anthropic.messages
        provider = provider.partition(".")[0]
    if not provider:
        provider = next((name for start, name in vocabulary.SCOPE_PROVIDERS if row["scope_name"].startswith(start)), "")
    if not provider and row["observation_type"] in MODEL_TYPES:
        provider = vocabulary.HOSTS.get(address, "")
        if not provider and not address:
            provider = provider_of_model(row.get("response_model") or row.get("request_model") or "")
    if not provider and row["observation_type"] == "engine":
        provider = "vllm"
    row["provider"] = provider
    if "response_model" in row and "request_model" not in row:
        row["request_model"] = row["response_model"]


def provider_of_model(model: str) -> str:
    """The only seller of a model of this name, or ""."""
    return next((name for prefix, name in vocabulary.MODEL_PREFIXES if model.startswith(prefix)), "")


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _split_litellm(row: Row) -> None:
    """LiteLLM writes `provider/model`."""
    for column in ("request_model", "response_model"):
        provider, slash, model = row.get(column, "").partition("/")
        if slash and (provider == row.get("provider") or provider in vocabulary.PROVIDERS or provider in _PLAIN):
            row[column] = model
            row.setdefault("provider", provider)
