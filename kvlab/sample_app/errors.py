"""Every error of the sample app as one JSON shape, ``Problem``; never a stack trace.

* The store gave no answer, or refused for now: 503 with Retry-After.
* An argument out of range: 422. A sum beyond what a board counts, an Idempotency-Key used for
  something else: 409.
* Anything else is a mistake in the program: 500. The stack trace goes to the log alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from kvlab.errors import (
    BatchFailed,
    CannotServe,
    Closed,
    InvalidArgument,
    KvlabError,
    OpIdReused,
    Outage,
    OutcomeUnknown,
    ScoreOutOfRange,
    ServerUnavailable,
)
from kvlab.sample_app.models import Problem

MARKS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""Headers of every answer. An answer to a mistake passes no middleware: it has them from here."""
RETRY_AFTER = {"Retry-After": "1"}
_STORE = (Outage, Closed)
_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def answer(
    status: int,
    detail: str,
    *,
    applied: bool | None = False,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A ``Problem`` as a response."""
    title = _TITLES.get(status, "Error")
    body = Problem(status=status, title=title, detail=detail, applied=applied)
    # ASCII, because a name from the request may be invalid Unicode.
    return Response(
        body.model_dump_json(ensure_ascii=True),
        status,
        headers={**MARKS, **(headers or {})},
        media_type="application/json",
    )


def install(app: FastAPI) -> None:
    """Make the app answer every error with a ``Problem``."""
    app.exception_handler(HTTPException)(_http)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(KvlabError)(_kvlab)
    app.exception_handler(SQLAlchemyError)(_database)
    app.exception_handler(Exception)(_mistake)


async def _http(request: Request, problem: HTTPException) -> Response:
    headers = dict(problem.headers or {})
    if problem.status_code == 405 and (route := request.scope.get("route")) is not None:
        # The framework names only the methods of the first route with this path.
        methods = request.app.openapi()["paths"].get(route.path, {})
        headers["Allow"] = ", ".join(method.upper() for method in methods) or headers["Allow"]
    return answer(problem.status_code, str(problem.detail), headers=headers)


async def _invalid(_: Request, problem: RequestValidationError) -> Response:
    # The answer does not repeat the request, which may be huge, NaN or invalid Unicode.
    reasons = [f"{_place(error['loc'])}: {error['msg']}" for error in problem.errors()]
    return answer(422, "; ".join(reasons[:5])[:1000])


def _place(location: tuple[object, ...]) -> str:
    return ".".join(f"{part!s:.40}" for part in location)


async def _kvlab(_: Request, problem: KvlabError) -> Response:
    match problem:
        case BatchFailed():
            return _batch(problem)
        case ServerUnavailable() | Closed():
            return answer(503, "the store cannot be reached", headers=RETRY_AFTER)
        case CannotServe():
            return answer(503, "the store cannot serve now", headers=RETRY_AFTER)
        case OutcomeUnknown():
            return answer(503, "the store gave no answer", applied=None, headers=RETRY_AFTER)
        case InvalidArgument():
            return answer(422, str(problem))
        case OpIdReused():
            return answer(409, "this Idempotency-Key stood for another submission")
        case ScoreOutOfRange():
            return answer(409, str(problem))
    raise problem


def _batch(problem: BatchFailed) -> Response:
    failed = [result for result in problem.results if isinstance(result, Exception)]
    if all(isinstance(error, _STORE) for error in failed):
        return answer(503, "the store gave no full answer", applied=None, headers=RETRY_AFTER)
    raise problem


async def _database(_: Request, problem: SQLAlchemyError) -> Response:
    return answer(503, "the database gave no answer", applied=None, headers=RETRY_AFTER)


async def _mistake(_: Request, problem: Exception) -> Response:
    return answer(500, "a mistake in the program; it is in the log", applied=None)
