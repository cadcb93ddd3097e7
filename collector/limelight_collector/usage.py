"""Usage objects: the token counts inside a provider's or a vendor's JSON, made canonical.

Canonical: input includes cache reads and writes, output includes reasoning. Which count contains which differs by
provider (docs/dialects.md, "Usage objects"); a shape is told by its keys and described by sums of paths.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limelight_collector.attributes import loads
from limelight_collector.convert import as_count, as_usd

Counts = dict[str, int]

_MAX_REPR_CHARS = 20_000
"""Longer text is not read as a Python literal: the parser recurses."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One form of usage object: it has any key of `marks` and none of `without`; a column is the sum of its paths."""

    marks: tuple[str, ...]
    sums: Mapping[str, tuple[str, ...]]
    without: tuple[str, ...] = ()


_CACHE_READ = (
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "input_token_details.cache_read",
    "cache_read_input_tokens",
    "prompt_cache_hit_tokens",
    "cached_tokens",
)
_CACHE_WRITE = (
    "prompt_tokens_details.cache_write_tokens",
    "prompt_tokens_details.cache_creation_tokens",
    "input_tokens_details.cache_write_tokens",
    "input_token_details.cache_creation",
    "cache_creation_input_tokens",
)
_REASONING = (
    "completion_tokens_details.reasoning_tokens",
    "output_tokens_details.reasoning_tokens",
    "output_tokens_details.thinking_tokens",
    "output_token_details.reasoning",
    "reasoning_tokens",
)
_FIVE_MINUTES = (
    "cache_creation.ephemeral_5m_input_tokens",
    "prompt_tokens_details.cache_creation_token_details.ephemeral_5m_input_tokens",
    "input_token_details.ephemeral_5m_input_tokens",
    "cache_creation_input_tokens_5m",
)
_HOUR = (
    "cache_creation.ephemeral_1h_input_tokens",
    "prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens",
    "input_token_details.ephemeral_1h_input_tokens",
    "cache_creation_input_tokens_above_1hr",
)

ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "input_tokens": ("input_tokens", "prompt_tokens", "inputTokens", "promptTokens"),
    "output_tokens": ("output_tokens", "completion_tokens", "outputTokens", "completionTokens"),
    "cache_read_tokens": (*_CACHE_READ, "cacheReadInputTokens", "cachedInputTokens", "cachedPromptTokens"),
    "cache_write_tokens": (*_CACHE_WRITE, "cacheWriteInputTokens", "cacheCreationInputTokens", "cacheWriteTokens"),
    "cache_write_5m_tokens": _FIVE_MINUTES,
    "cache_write_1h_tokens": _HOUR,
    "reasoning_tokens": (*_REASONING, "reasoningTokens"),
}
"""Where the whole contains its parts (OpenAI's shapes and those made like them): the first path that is there."""

DISJOINT = (
    # Anthropic's own: three counts that exclude each other. Who adds a total has added them up already.
    Shape(
        ("cache_read_input_tokens", "cache_creation_input_tokens"),
        {
            "input_tokens": ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
            "output_tokens": ("output_tokens",),
            "cache_read_tokens": ("cache_read_input_tokens",),
            "cache_write_tokens": ("cache_creation_input_tokens",),
        },
        without=("total_tokens", "prompt_tokens", "input_token_details"),
    ),
    # Gemini and Vertex: thoughts and tool results are beside, not inside.
    Shape(
        ("promptTokenCount", "candidatesTokenCount"),
        {
            "input_tokens": ("promptTokenCount", "toolUsePromptTokenCount"),
            "output_tokens": ("candidatesTokenCount", "thoughtsTokenCount"),
            "cache_read_tokens": ("cachedContentTokenCount",),
            "reasoning_tokens": ("thoughtsTokenCount",),
        },
    ),
    Shape(
        ("prompt_token_count", "candidates_token_count"),
        {
            "input_tokens": ("prompt_token_count", "tool_use_prompt_token_count"),
            "output_tokens": ("candidates_token_count", "thoughts_token_count"),
            "cache_read_tokens": ("cached_content_token_count",),
            "reasoning_tokens": ("thoughts_token_count",),
        },
    ),
    # Bedrock Converse
    Shape(
        ("cacheReadInputTokens", "cacheWriteInputTokens"),
        {
            "input_tokens": ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
            "output_tokens": ("outputTokens",),
            "cache_read_tokens": ("cacheReadInputTokens",),
            "cache_write_tokens": ("cacheWriteInputTokens",),
        },
    ),
    # Ollama
    Shape(
        ("prompt_eval_count", "eval_count"),
        {
            "input_tokens": ("prompt_eval_count",),
            "output_tokens": ("eval_count",),
            "cache_read_tokens": ("prompt_eval_cached_count",),
        },
    ),
    # Cohere v2: what is billed
    Shape(
        ("billed_units",),
        {
            "input_tokens": ("billed_units.input_tokens",),
            "output_tokens": ("billed_units.output_tokens",),
        },
    ),
)

_BUCKET_COLUMNS = {
    "cache_read_tokens": ("input_cached_tokens", "input_cache_read", "cache_read_input_tokens", "cached_tokens"),
    "cache_write_tokens": ("input_cache_creation", "cache_creation_input_tokens", "input_cache_write"),
    "reasoning_tokens": ("output_reasoning_tokens", "output_reasoning"),
}
"""Langfuse's hand-made buckets: `input` and `output` are what is left beside `input_…`, `cache_…` and `output_…`."""


def read_usage(value: Any) -> Counts:
    """Canonical counts in a usage object (a dict, JSON text, or the repr of a dict); empty where there are none."""
    found = as_object(value)
    if found is None:
        return {}
    if "input" in found or "output" in found:
        return _buckets(found)
    for shape in DISJOINT:
        if any(key in found for key in shape.marks) and not any(key in found for key in shape.without):
            counts = {column: _sum(found, paths) for column, paths in shape.sums.items()}
            counts |= {column: _first(found, ALTERNATIVES[column]) for column in _LIFETIMES}
            counts.setdefault("reasoning_tokens", _first(found, _REASONING))
            return _known(counts)
    return _known({column: _first(found, paths) for column, paths in ALTERNATIVES.items()})


def read_details(found: dict[str, Any]) -> Counts:
    """The counts in `found` that are part of another: cache, reasoning. Totals are asked for elsewhere."""
    return _known({column: _first(found, ALTERNATIVES[column]) for column in _DETAILS})


_DETAILS = (
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
)
_LIFETIMES = ("cache_write_5m_tokens", "cache_write_1h_tokens")


def read_cost(value: Any) -> dict[str, Any]:
    """Reported USD in a cost object (`total`, or `input` + `output` + …): `reported_cost_usd`, `…_input_usd`, …"""
    found = as_object(value)
    if found is None:
        return {}
    amounts = {key: amount for key, given in found.items() if (amount := as_usd(given)) is not None}
    total = amounts.get("total", amounts.get("total_cost"))
    if total is None and amounts:
        total = sum(amounts.values())
    costs = {
        "reported_cost_usd": total,
        "reported_cost_input_usd": amounts.get("input", amounts.get("input_cost")),
        "reported_cost_output_usd": amounts.get("output", amounts.get("output_cost")),
    }
    return {column: amount for column, amount in costs.items() if amount is not None}


def as_object(value: Any) -> dict[str, Any] | None:
    """The dict in `value`: itself, JSON text of one, or the repr of one of plain literals (never evaluated)."""
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith("{"):
            return None
        value = loads(text)
        if value is None and len(text) <= _MAX_REPR_CHARS:
            value = _literal(text)
    return value if isinstance(value, dict) else None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _buckets(found: dict[str, Any]) -> Counts:
    counts = {key: count for key, given in found.items() if (count := as_count(given)) is not None}
    given = [count for key, count in counts.items() if key == "input" or key.startswith(("input_", "cache_"))]
    answered = [count for key, count in counts.items() if key == "output" or key.startswith("output_")]
    return _known(
        {
            "input_tokens": sum(given) if given else None,
            "output_tokens": sum(answered) if answered else None,
            **{column: _first(counts, keys) for column, keys in _BUCKET_COLUMNS.items()},
        }
    )


def _known(counts: Mapping[str, int | None]) -> Counts:
    return {column: count for column, count in counts.items() if count is not None}


def _first(found: dict[str, Any], paths: tuple[str, ...]) -> int | None:
    return next((count for path in paths if (count := _at(found, path)) is not None), None)


def _sum(found: dict[str, Any], paths: tuple[str, ...]) -> int | None:
    counts = [count for path in paths if (count := _at(found, path)) is not None]
    return sum(counts) if counts else None


def _at(found: Any, path: str) -> int | None:
    for key in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(key)
    return as_count(found)
