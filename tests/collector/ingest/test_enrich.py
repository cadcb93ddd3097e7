"""Cost is right or unknown, never 0 by accident; detectors find what is there and nothing else."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from genai_prices import Usage, calc_price

from collector.ingest.otlp import NOW, PRICES, row
from limelight_collector.enrich.cost import PriceOverride, Prices
from limelight_collector.enrich.flags import detect

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.provider.name": "openai"}


def priced(prices: Prices = PRICES, **given: Any) -> dict[str, Any]:
    found = {"provider": "openai", "request_model": "gpt-4o-mini", "input_tokens": 120, "output_tokens": 45,
             "billable": True, "start_time": NOW, **given}  # fmt: skip
    prices.for_project("p")(found)
    return found


CLAUDE = {
    "provider": "anthropic",
    "request_model": "claude-sonnet-4-5",
    "cache_read_tokens": 70,
    "cache_write_tokens": 30,
}


@pytest.mark.parametrize(
    ("given", "cost"),
    [
        ({"cache_read_tokens": 64}, "0.0000402"),
        ({**CLAUDE, "cache_write_5m_tokens": 10, "cache_write_1h_tokens": 20}, "0.0009135"),
        (CLAUDE, "0.0008685"),
        (
            {"request_model": "gpt-5-mini", "input_tokens": 1000, "output_tokens": 1000, "service_tier": "flex"},
            "0.001125",
        ),
        ({"request_model": "my-alias", "response_model": "gpt-4o-mini-2024-07-18"}, "0.000045"),
        ({"response_model": "my-finetune"}, "0.000045"),
    ],
)
def test_known_prices(given: dict[str, Any], cost: str) -> None:
    found = priced(**given)
    assert (found["cost_usd"], found["cost_state"]) == (Decimal(cost), "computed")
    assert found["computed_cost_usd"] == found["cost_usd"]


@pytest.mark.parametrize(
    ("provider", "listed", "model"),
    [
        ("gcp.gemini", "google", "gemini-2.5-pro"),
        ("gcp.gemini", "google", "gemini-2.5-flash"),
        ("anthropic", "anthropic", "claude-sonnet-4-5"),
        ("openai", "openai", "gpt-5-mini"),
        ("deepseek", "deepseek", "deepseek-chat"),
        ("openai", "openai", "text-embedding-3-small"),
    ],
)
@pytest.mark.parametrize("total", [1, 1_000, 200_000, 200_001, 300_000])
@pytest.mark.parametrize("cached", [0, 1])
def test_our_arithmetic_agrees_with_the_price_table(
    provider: str, listed: str, model: str, total: int, cached: int
) -> None:
    output = 0 if "embedding" in model else 500
    given = {"input_tokens": total, "output_tokens": output, "cache_read_tokens": cached}
    found = priced(provider=provider, request_model=model, **given)
    at = datetime.fromtimestamp(NOW / 1e9, timezone.utc)
    listed_price = calc_price(Usage(**given), model, provider_id=listed, genai_request_timestamp=at).total_price
    assert found["cost_usd"] == listed_price


@pytest.mark.parametrize(
    "given",
    [
        {"provider": "ollama", "request_model": "llama3.2"},
        {"provider": ""},
        {"request_model": "no-such-model"},
        {"request_model": ""},
        {"cache_read_tokens": 500},
    ],
)
def test_unknown_is_unpriced_and_never_zero(given: dict[str, Any]) -> None:
    found = priced(**given)
    assert (found["cost_usd"], found["computed_cost_usd"], found["cost_state"]) == (None, None, "unpriced")


def test_a_reported_cost_counts_and_a_reported_zero_does_not() -> None:
    found = priced(reported_cost_usd=Decimal("0.5"))
    assert (found["cost_usd"], found["cost_state"]) == (Decimal("0.5"), "provider_reported")
    assert found["computed_cost_usd"] == Decimal("0.000045")
    found = priced(reported_cost_usd=Decimal(0))
    assert (found["reported_cost_usd"], found["cost_state"]) == (None, "computed")


def test_nothing_to_price_has_no_state() -> None:
    assert priced(billable=False)["cost_state"] == ""
    assert priced(input_tokens=None, output_tokens=None)["cost_state"] == ""


def test_a_projects_own_prices_come_first() -> None:
    book = {
        "p": [PriceOverride("openai", "gpt-4o-mini", "1", "2", "0.5"), PriceOverride("", "house-model", "10", "0")],
        "other": [PriceOverride("openai", "gpt-4o-mini", "a lot", "2")],
    }
    prices = Prices(lambda project: book.get(project, []))
    assert priced(prices, cache_read_tokens=100)["cost_usd"] == Decimal("0.00016")
    assert priced(prices, provider="ollama", request_model="house-model")["cost_usd"] == Decimal("0.0012")
    other: dict[str, Any] = priced()
    prices.for_project("other")(other)
    assert other["cost_usd"] == Decimal("0.000045")


# -- flags -------------------------------------------------------------------------------------------------------------
def answered(*parts: Any, **given: Any) -> dict[str, Any]:
    listed = [{"type": "text", "content": part} if isinstance(part, str) else part for part in parts]
    return row({**CHAT, "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": listed}]), **given})


def codes(found: dict[str, Any]) -> list[str]:
    return [flag.code for flag in detect(found)]


LENGTH = {"gen_ai.response.finish_reasons": ["length"]}
OUT = "gen_ai.usage.output_tokens"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (answered("fine"), []),
        (answered("half a sen", **LENGTH), ["truncated"]),
        (answered("", **LENGTH), ["truncated"]),
        (answered(""), ["empty"]),
        (answered("  \n"), ["empty"]),
        (answered(), []),
        (answered(**{"gen_ai.response.finish_reasons": ["stop"]}), ["empty"]),
        (answered(**{"gen_ai.response.finish_reasons": ["tool_calls"]}), []),
        (row({**CHAT, OUT: 0}), ["empty"]),
        (row({**CHAT, OUT: 5}), []),
        (row(CHAT), []),
        (answered({"type": "tool_call", "id": "1", "name": "f", "arguments": {}}), []),
        (answered({"type": "reasoning", "content": "hm"}), []),
        (answered("x", **{"gen_ai.response.finish_reasons": ["content_filter"]}), ["refusal"]),
        (answered({"type": "refusal", "content": "No."}), ["refusal"]),
        (row({"gen_ai.operation.name": "invoke_agent", **LENGTH}), []),
    ],
)
def test_detectors(found: dict[str, Any], expected: list[str]) -> None:
    assert codes(found) == expected


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, but I can’t help with that request.",
        "Sorry, I cannot help you with this.",
        "I cannot provide instructions for that.",
        "As an AI language model, I am unable to comply with this.",
        "I am not able to help with illegal activities.",
        "  I won't create that.",
    ],
)
def test_refusals_are_quoted(text: str) -> None:
    flag = next(iter(detect(answered(text))))
    assert (flag.code, flag.source, flag.trace_id[:1]) == ("refusal", "heuristic", b"\x01")
    quote = flag.evidence.partition('"')[2].rstrip('"')
    assert quote
    assert quote in text


@pytest.mark.parametrize(
    "text",
    [
        "I can't wait to help you!",
        "I cannot recommend this book enough.",
        "I'm sorry to hear that. Here is what to do.",
        "I'm sorry, but I couldn't find your order; could you check the number?",
        "I can't help but notice the typo in line 3.",
        "The bot said \"I'm sorry, but I can't assist with that.\" Here is why.",
        "You can't help with that unless you register.",
        "I can help with that.",
        "I am unable to reproduce the bug on my machine, so here are three hypotheses.",
    ],
)
def test_ordinary_answers_are_no_refusals(text: str) -> None:
    assert codes(answered(text)) == []


def test_a_replay_makes_the_same_flags() -> None:
    assert list(detect(answered(""))) == list(detect(answered("")))
