"""Errors as problem JSON (RFC 9457): what is wrong, in words a person can act on. The error kind decides the status."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from limelight_collector.errors import QueryLimit, Rejected, Unavailable
from limelight_collector.query.filter import FilterError
from limelight_collector.request_ids import REQUEST_ID

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

log = logging.getLogger("limelight.api")

_STATUS = {
    "bad_request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "not_found": 404,
    "method": 405,
    "conflict": 409,
    "too_large": 413,
    "media_type": 415,
}


def problem(status: int, detail: str, *, headers: dict[str, str] | None = None, **members: Any) -> JSONResponse:
    """An answer of `application/problem+json` with `status`, its title, `detail` and any further members."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}
    if request_id := REQUEST_ID.get():
        body["request_id"] = request_id
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Register every error kind with `app`."""
    app.add_exception_handler(Rejected, _rejected)
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(QueryLimit, _query_limit)
    app.add_exception_handler(FilterError, _bad_filter)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)


def _rejected(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Rejected)
    headers = {"WWW-Authenticate": "Bearer"} if error.kind == "unauthenticated" else None
    return problem(_STATUS[error.kind], error.message, headers=headers)


def _unavailable(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Unavailable)
    return problem(503, error.message, headers={"Retry-After": str(error.retry_after_s)})


def _query_limit(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, QueryLimit)
    return problem(422, error.message)


def _bad_filter(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FilterError)
    return problem(400, f"filter, at position {error.position}: {error.message}", position=error.position)


def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    said = [f"{'.'.join(str(part) for part in item['loc'][1:]) or 'body'}: {item['msg']}" for item in error.errors()]
    return problem(400, "; ".join(said))


def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    detail = "there is nothing at this address; see /openapi.json" if error.status_code == 404 else str(error.detail)
    return problem(error.status_code, detail, headers=dict(error.headers or {}))


def _bug(request: Request, error: Exception) -> JSONResponse:
    # The path template, not the path: ids and filters stay out of the log.
    route = getattr(request.scope.get("route"), "path", "")
    log.error("request failed", exc_info=error, extra={"fields": {"route": route, "error": type(error).__name__}})
    return problem(500, "this is a bug of the collector; its log has the details")
