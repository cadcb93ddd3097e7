"""Cost: what one model call costs in USD, from the project's own prices, else from genai-prices' bundled table.

An unknown price is `unpriced`, never 0. Prices are those at the span's start time. Tokens are canonical (input includes
cache reads and writes, output includes reasoning), which is also how genai-prices counts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from limelight_collector.convert import as_usd, to_usd

log = logging.getLogger("limelight.cost")

Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DAY_NS = 86_400 * 10**9
_MILLION = 1_000_000

PRICE_PROVIDERS = {
    "x_ai": "x-ai",
    "gcp.gen_ai": "google",
    "gcp.gemini": "google",
    "gcp.vertex_ai": "google",
    "aws.bedrock": "aws",
    "azure.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "mistral_ai": "mistral",
    "moonshot_ai": "moonshotai",
}
"""semconv's provider names -> genai-prices' where they differ."""

_UNITS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A project's own price of one model: USD per million tokens as decimal strings, provider "" matches any."""

    provider: str
    model: str
    input_per_million_usd: str
    output_per_million_usd: str
    cache_read_per_million_usd: str | None = None


class Prices:
    """The price book. `overrides(project_id)` is asked once per project and batch."""

    def __init__(self, overrides: Callable[[str], list[PriceOverride]] | None = None) -> None:
        self._overrides = overrides
        self._rates: dict[tuple[str, str, str, int], _Rates | None] = {}

    def warm_up(self) -> None:
        """Load the price table (0.7 s the first time), so that no request waits for it."""
        _call("openai", "gpt-4o-mini", "", _EPOCH, {"input_tokens": 1})

    def for_project(self, project_id: str) -> Callable[[Row], None]:
        """A function that sets a row's cost columns."""
        listed = self._overrides(project_id) if self._overrides else []
        own = {(price.provider, price.model): price for price in listed if _is_usable(price)}

        def price(row: Row) -> None:
            self._price(row, own)

        return price

    def _price(self, row: Row, own: dict[tuple[str, str], PriceOverride]) -> None:
        has_tokens = bool(row.get("input_tokens") or row.get("output_tokens"))
        reported = row.get("reported_cost_usd")
        if reported is not None and reported == 0 and has_tokens:
            reported = row["reported_cost_usd"] = None  # emitters without a price say 0
        if not row.get("billable"):
            row["cost_state"] = ""
            return
        computed = self._computed(row, own) if has_tokens else None
        row["computed_cost_usd"] = computed
        row["cost_usd"] = reported if reported is not None else computed
        if reported is not None:
            row["cost_state"] = "provider_reported"
        elif computed is not None:
            row["cost_state"] = "computed"
        else:
            row["cost_state"] = "unpriced" if has_tokens else ""

    def _computed(self, row: Row, own: dict[tuple[str, str], PriceOverride]) -> Decimal | None:
        provider = row.get("provider") or ""
        models = list(dict.fromkeys(filter(None, (row.get("response_model"), row.get("request_model")))))
        for model in models:
            price = own.get((provider, model)) or own.get(("", model))
            if price is not None:
                return to_usd(_overridden(row, price))
        if not provider:
            return None
        for model in models:
            cost = self._listed(row, provider, model)
            if cost is not None:
                return to_usd(cost)
        return None

    def _listed(self, row: Row, provider: str, model: str) -> Decimal | None:
        """The bundled table's cost; None for an unknown model and for usage that cannot be."""
        tier = row.get("service_tier") or ""
        key = (provider, model, tier, row["start_time"] // _DAY_NS)
        if key not in self._rates:
            if len(self._rates) > 10_000:  # model names come from clients
                self._rates.clear()
            self._rates[key] = _Rates.find(provider, model, tier, _moment(row))
        rates = self._rates[key]
        if rates is None:
            return None
        usage = _usage(row)
        if usage is None:
            return None
        if rates.linear is not None:
            return rates.fixed + sum((usage[unit] * rates.linear[unit] for unit in usage), Decimal(0))
        return _call(provider, model, tier, _moment(row), usage)


@dataclass(frozen=True, slots=True)
class _Rates:
    """Unit prices of one model, tier and day; `linear` is None where they depend on the amount or the time of day."""

    fixed: Decimal
    linear: dict[str, Decimal] | None

    @classmethod
    def find(cls, provider: str, model: str, tier: str, moment: datetime) -> _Rates | None:
        """Measured on the library itself: asking it for each span costs 200 µs, multiplying 3."""
        fixed = _call(provider, model, tier, moment, {"input_tokens": 0, "output_tokens": 0})
        if fixed is None:
            return None
        if _varies(provider, model):
            return cls(fixed, None)
        linear: dict[str, Decimal] = {}
        for unit in _UNITS:
            inside_input = unit not in ("input_tokens", "output_tokens")
            usage = {unit: _MILLION, **({"input_tokens": _MILLION} if inside_input else {})}
            price = _call(provider, model, tier, moment, usage)
            if price is None:
                return cls(fixed, None)
            linear[unit] = (price - fixed) / _MILLION
        return cls(fixed, {unit: _own_rate(linear, unit) for unit in _UNITS})


def _own_rate(linear: dict[str, Decimal], unit: str) -> Decimal:
    """Rate on top of what the unit costs as plain input, because cache tokens are counted in the input already."""
    return linear[unit] - linear["input_tokens"] if unit.startswith("cache_") else linear[unit]


def _varies(provider: str, model: str) -> bool:
    """Whether tiers (one price from a total on) or hours change the price."""
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import TieredPrices, TimeOfDateConstraint

    found = get_snapshot().find_provider_model(model, None, PRICE_PROVIDERS.get(provider, provider), None)[1]
    listed = found.prices if isinstance(found.prices, list) else None
    prices = [found.prices] if listed is None else [item.prices for item in listed]
    variants = found.price_variants or []
    constraints = [item.constraint for item in [*(listed or []), *variants]]
    values = [value for price in [*prices, *(item.prices for item in variants)] for value in vars(price).values()]
    return any(isinstance(value, TieredPrices) for value in values) or any(
        isinstance(constraint, TimeOfDateConstraint) for constraint in constraints
    )


def _usage(row: Row) -> dict[str, int] | None:
    """The row's tokens in the library's units; None where the parts exceed the whole.

    Cache writes of unknown lifetime count as 5-minute writes, the providers' default.
    """
    read = row.get("cache_read_tokens") or 0
    write = row.get("cache_write_tokens") or 0
    hour = min(row.get("cache_write_1h_tokens") or 0, write)
    total = row.get("input_tokens") or 0
    if read + write > total:
        return None
    usage = {"input_tokens": total, "output_tokens": row.get("output_tokens") or 0}
    parts = {"cache_read_tokens": read, "cache_write_5m_tokens": write - hour, "cache_write_1h_tokens": hour}
    return usage | {unit: count for unit, count in parts.items() if count}


def _call(provider: str, model: str, tier: str, moment: datetime, usage: dict[str, int]) -> Decimal | None:
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier} if tier else None
    writes = usage.get("cache_write_5m_tokens", 0) + usage.get("cache_write_1h_tokens", 0)
    given = {**usage, "cache_write_tokens": writes} if writes else usage
    library = _library()
    try:
        found = library.calc_price(
            library.Usage(**given),
            model,
            provider_id=PRICE_PROVIDERS.get(provider, provider),
            genai_request_timestamp=moment,
            price_context=context,
        )
    except (LookupError, ValueError):
        return None
    return found.total_price


def _library() -> Any:
    import genai_prices  # loaded on first use: it takes 0.7 s

    return genai_prices


def _is_usable(price: PriceOverride) -> bool:
    """Whether its amounts are numbers: one that is not must not cost the spans that it was meant for."""
    read = price.cache_read_per_million_usd
    amounts = [price.input_per_million_usd, price.output_per_million_usd, *([] if read is None else [read])]
    usable = all(as_usd(amount) is not None for amount in amounts)
    if not usable:
        log.warning("price override ignored", extra={"fields": {"model": price.model}})
    return usable


def _overridden(row: Row, price: PriceOverride) -> Decimal:
    read = row.get("cache_read_tokens") or 0
    rate_in = Decimal(price.input_per_million_usd)
    rate_read = rate_in if price.cache_read_per_million_usd is None else Decimal(price.cache_read_per_million_usd)
    plain = max(0, (row.get("input_tokens") or 0) - read)
    output = (row.get("output_tokens") or 0) * Decimal(price.output_per_million_usd)
    return (plain * rate_in + read * rate_read + output) / _MILLION


def _moment(row: Row) -> datetime:
    return _EPOCH + timedelta(microseconds=row["start_time"] // 1000)
