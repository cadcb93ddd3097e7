"""The HTTP API beside OTLP: FastAPI, one router a noun, every route with a declared scope."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from limelight.version import __version__
from limelight_collector.api import (
    alerts,
    backups,
    deletions,
    keys,
    logs,
    metrics,
    prices,
    problems,
    projects,
    queries,
    questions,
    scores,
    spans,
    status,
    traces,
)
from limelight_collector.api.access import Scope, remember_route
from limelight_collector.services import Services

PUBLIC = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes without a key."""


SCOPED = (
    *(traces, spans, metrics, logs, questions, scores, status, alerts, keys, prices, backups, projects, deletions),
    queries,
)
"""Modules whose `router` is served under /api/v1."""


def create_app(services: Services) -> FastAPI:
    """The API over the collector's parts; OpenAPI at /openapi.json. Refuses to start with a route without a scope."""
    every_route = [Depends(remember_route)]
    app = FastAPI(title="Limelight", version=__version__, docs_url=None, redoc_url=None, dependencies=every_route)
    app.state.services = services
    problems.install(app)
    refuse_undeclared(status.public, PUBLIC)
    app.include_router(status.public)
    for module in SCOPED:
        refuse_undeclared(module.router)
        app.include_router(module.router, prefix="/api/v1")
    return app


def refuse_undeclared(router: APIRouter, public: frozenset[str] = frozenset()) -> None:
    """Raise where a route neither is public nor declares its scope: what is forgotten stays closed.

    Routes are looked at before they are included: what an included router looks like is FastAPI's own business.
    """
    for route in router.routes:
        path = getattr(route, "path", repr(route))
        if path not in public and not (isinstance(route, APIRoute) and declared_scopes(route.dependant)):
            raise RuntimeError(f"{path} declares no scope")


def declared_scopes(dependant: Dependant) -> set[str]:
    """The scopes a route asks for, through whatever dependency."""
    found = {dependant.call.name} if isinstance(dependant.call, Scope) else set[str]()
    return found.union(*(declared_scopes(inner) for inner in dependant.dependencies))
