"""What providers' answers and errors tell beside the text, where a captured call does not show it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from limelight_collector.response import exception_of, fill_provider, fill_response

TRACEBACK = "Traceback (most recent call last):\n  File x\nValueError: no"


def filled(given: int | None, **told: Any) -> dict[str, Any]:
    """A row with `given` input tokens after the provider told."""
    row = {} if given is None else {"input_tokens": given}
    fill_provider(row, json.dumps(told))
    return row


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (500, {"cacheReadInputTokens": 70, "cacheCreationInputTokens": 30}),  # Vercel 4
        (500, {"usage": {"input_tokens": 500, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 30}}),  # 5
    ],
)
def test_anthropics_input_without_its_cache_is_made_whole(given: int, told: dict[str, Any]) -> None:
    found = filled(given, anthropic=told)
    assert (found["input_tokens"], found["raw_input_tokens"]) == (600, 500)
    assert (found["cache_read_tokens"], found["cache_write_tokens"]) == (70, 30)


def test_an_input_that_is_whole_stays() -> None:
    usage = {"input_tokens": 500, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 30}
    assert filled(600, anthropic={"usage": usage}) == {
        "input_tokens": 600,
        "cache_read_tokens": 70,
        "cache_write_tokens": 30,
    }
    assert filled(500, openai={"cachedPromptTokens": 64}) == {"input_tokens": 500, "cache_read_tokens": 64}


def test_what_was_not_counted_is_not_made_up() -> None:
    assert filled(None, anthropic={"cacheReadInputTokens": 70}) == {"cache_read_tokens": 70}
    assert filled(7, openai={}, google=None, groq=["x"]) == {"input_tokens": 7}


@pytest.mark.parametrize("value", ["", "[]", "null", "no JSON", 7, None])
def test_metadata_that_is_no_object_tells_nothing(value: Any) -> None:
    row = {"input_tokens": 7}
    fill_provider(row, value)
    assert row == {"input_tokens": 7}


def test_columns_that_are_known_stay() -> None:
    row = {"input_tokens": 7, "service_tier": "flex", "reasoning_tokens": 2}
    fill_provider(row, {"openai": {"serviceTier": "default", "reasoningTokens": 5}})
    assert row == {"input_tokens": 7, "service_tier": "flex", "reasoning_tokens": 2}


@pytest.mark.parametrize(
    ("kind", "message", "expected"),
    [
        ("Exception", f"ValueError('no')\n{TRACEBACK}", ("ValueError", "no")),
        ("Exception", f'KeyError("it\'s")\n{TRACEBACK}', ("KeyError", "it's")),
        ("Exception", f"it broke\n{TRACEBACK}", ("Exception", "it broke")),
        ("Exception", "ValueError('no')", ("Exception", "ValueError('no')")),
        ("ValueError", TRACEBACK, ("ValueError", TRACEBACK)),
    ],
)
def test_an_error_inside_the_text_of_another(kind: str, message: str, expected: tuple[str, str]) -> None:
    assert exception_of({"exception.type": kind, "exception.message": message}) == expected


@pytest.mark.parametrize("generations", [[], [[]], [[{"message": "x"}]], [[{"message": {"kwargs": None}}]], "x"])
def test_a_result_of_langchain_without_metadata_tells_nothing(generations: Any) -> None:
    row: dict[str, Any] = {"observation_type": "llm", "finish_reasons": []}
    fill_response(row, {"gen_ai.completion": json.dumps({"generations": generations})})
    assert row == {"observation_type": "llm", "finish_reasons": []}
