"""Who may call a route. Every route under /api declares its scope with one of these; `app.py` refuses to start else.

The project always comes from the key, so a handler takes it from the principal and from nowhere else.
"""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from limelight_collector.auth import Principal
from limelight_collector.services import Services
from limelight_collector.store.slow import ROUTE


def services_of(request: Request) -> Services:
    """The running collector's parts."""
    return cast("Services", request.app.state.services)


async def remember_route(request: Request) -> None:
    """Let the store know which route asks; on the event loop, since the handler's thread inherits what is set there."""
    ROUTE.set(str(getattr(request.scope.get("route"), "path", "")))


class Scope:
    """The dependency that authenticates a request and asks for one scope: 401 without a valid key, 403 without it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, request: Request) -> Principal:
        """The request's principal; `Rejected` (unauthenticated, forbidden)."""
        principal = services_of(request).authenticate(request.headers.get("authorization"))
        principal.require(self.name)
        return principal


Reader = Annotated[Principal, Depends(Scope("read"))]
"""A caller who may read its project."""
Ingester = Annotated[Principal, Depends(Scope("ingest"))]
"""A caller who may add data to its project."""
Admin = Annotated[Principal, Depends(Scope("admin"))]
"""A caller who may change rules, keys and prices of its project."""
Parts = Annotated[Services, Depends(services_of)]
"""The collector's parts, as an argument of a route."""
