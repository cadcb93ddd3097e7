"""Cost: what one model call costs in USD, from the project's own prices, else from genai-prices' bundled table.

An unknown price is `unpriced`, never 0. Prices are those at the span's start time. Tokens are canonical (input includes
cache reads and writes, output includes reasoning), which is also how genai-prices counts.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Any

from limelight_collector.classify import provider_of_model
from limelight_collector.convert import as_usd, to_usd
from limelight_collector.vocabulary import FRAMEWORKS

log = logging.getLogger("limelight.cost")

Row = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DAY_NS = 86_400 * 10**9
_MILLION = 1_000_000
_MAX_RATE = 10**9

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

_FIXED = "fixed"
_MAX_CACHED = 10_000
"""Models remembered: their names come from clients."""


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
        self._rates: dict[tuple[str, str, str, int, int], dict[str, Decimal] | None] = {}

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
        if provider in FRAMEWORKS:
            provider = next(filter(None, map(provider_of_model, models)), "")
        if not provider:
            return None
        for model in models:
            cost = self._listed(row, provider, model)
            if cost is not None:
                return to_usd(cost)
        return None

    def _listed(self, row: Row, provider: str, model: str) -> Decimal | None:
        """The bundled table's cost; None for an unknown model and for usage that cannot be."""
        usage = _usage(row)
        shape = _shape(provider, model)
        if usage is None or shape is None:
            return None
        tier = row.get("service_tier") or ""
        if shape.hourly:
            return _call(provider, model, tier, _moment(row), usage)
        bracket = bisect_left(shape.starts, usage["input_tokens"])
        key = (provider, model, tier, row["start_time"] // _DAY_NS, bracket)
        if key not in self._rates:
            if len(self._rates) > _MAX_CACHED:
                self._rates.clear()
            self._rates[key] = _rates(provider, model, tier, _moment(row), shape.starts[bracket - 1] if bracket else 0)
        rates = self._rates[key]
        return None if rates is None else sum((usage[unit] * rates[unit] for unit in usage), rates[_FIXED])


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a model's price depends on besides the date: totals of input from which all tokens cost otherwise, hours."""

    starts: tuple[int, ...]
    hourly: bool


@lru_cache(_MAX_CACHED)
def _shape(provider: str, model: str) -> _Shape | None:
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import TieredPrices, TimeOfDateConstraint

    try:
        found = get_snapshot().find_provider_model(model, None, PRICE_PROVIDERS.get(provider, provider), None)[1]
    except LookupError:
        return None
    listed = found.prices if isinstance(found.prices, list) else []
    variants = found.price_variants or []
    prices = [item.prices for item in [*listed, *variants]] or [found.prices]
    values = [
        value for price in [*prices, found.prices] if not isinstance(price, list) for value in vars(price).values()
    ]
    starts = {tier.start for value in values if isinstance(value, TieredPrices) for tier in value.tiers}
    hourly = any(isinstance(item.constraint, TimeOfDateConstraint) for item in [*listed, *variants])
    return _Shape(tuple(sorted(starts)), hourly)


def _rates(provider: str, model: str, tier: str, moment: datetime, start: int) -> dict[str, Decimal] | None:
    """USD per token of each unit where the input's total is above `start`, and the fixed part of a call.

    Measured on the library itself: asking it for each span costs 200 µs, multiplying 3. Cache tokens are counted in the
    input already, so their rate is what they cost besides.
    """
    total = start + 1

    def cost(**usage: int) -> Decimal | None:
        return _call(provider, model, tier, moment, {"input_tokens": total, "output_tokens": 0, **usage})

    fixed, plain, output = cost(input_tokens=0), cost(), cost(output_tokens=_MILLION)
    if fixed is None or plain is None or output is None:
        return None
    rates = {_FIXED: fixed, "input_tokens": (plain - fixed) / total, "output_tokens": (output - plain) / _MILLION}
    for unit in ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"):
        cached = cost(**{unit: total})
        if cached is None:
            return None
        rates[unit] = (cached - plain) / total
    return rates


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
    """Whether its amounts are sane numbers: one that is not must not cost the spans that it was meant for."""
    read = price.cache_read_per_million_usd
    amounts = [price.input_per_million_usd, price.output_per_million_usd, *([] if read is None else [read])]
    found = [as_usd(amount) for amount in amounts]
    usable = all(amount is not None and amount < _MAX_RATE for amount in found)
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
