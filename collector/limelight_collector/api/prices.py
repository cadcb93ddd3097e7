"""Prices: the project's own, and which public table stands behind them."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from limelight_collector.api.access import Admin, Parts, Reader
from limelight_collector.api.alerts import actor_of
from limelight_collector.enrich.cost import PriceOverride
from limelight_collector.errors import Rejected

router = APIRouter(tags=["prices"])

Json = dict[str, Any]


Price = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}(\.[0-9]{1,12})?$")]
"""USD per million tokens as decimal text, so that no digit is lost on the way."""


class Override(BaseModel):
    """The price of one model for this project; provider "" matches any. No cache price = cache reads cost as input."""

    model_config = ConfigDict(extra="forbid")

    provider: Annotated[str, StringConstraints(max_length=128)] = ""
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    input_per_million_usd: Price
    output_per_million_usd: Price
    cache_read_per_million_usd: Price | None = None


class Overrides(BaseModel):
    """The whole set: what is not in it is gone."""

    model_config = ConfigDict(extra="forbid")

    overrides: Annotated[list[Override], Field(max_length=2000)]


@router.get("/prices")
def get_prices(caller: Reader, parts: Parts) -> Json:
    """The project's overrides and the name and version of the public table used for everything else."""
    overrides = [asdict(item) for item in parts.control.price_overrides(caller.project_id)]
    return {"overrides": overrides, "source": "genai-prices", "source_version": version("genai-prices")}


@router.put("/prices/overrides")
def replace_overrides(body: Overrides, caller: Admin, parts: Parts) -> Json:
    """Replace the project's overrides; spans written from now on (within seconds) are priced by them."""
    names = [(item.provider, item.model) for item in body.overrides]
    if len(set(names)) < len(names):
        raise Rejected("bad_request", "overrides: a provider and model are priced twice")
    wanted = [PriceOverride(**item.model_dump()) for item in body.overrides]
    parts.control.replace_price_overrides(caller.project_id, wanted, actor=actor_of(caller))
    return get_prices(caller, parts)
