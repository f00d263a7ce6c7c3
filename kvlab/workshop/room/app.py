"""The room over HTTP: a few routes, one page."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.responses import Response

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.sample_app.guard import Guard
from kvlab.sample_app.routes.page import policy_of
from kvlab.workshop.room.room import Refused, Room

MAX_BODY = 64 * 1024
_TYPE = "<p>This is the address of a workshop's room. To take part, type in a terminal:</p>"
PAGE = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")


def app_of(room: Room, hosts: frozenset[str] = frozenset()) -> FastAPI:
    """The app of a room; ``hosts`` are names that it answers to, besides addresses."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, max_body_size=MAX_BODY)
    app.add_middleware(Guard, hosts=hosts)
    app.add_exception_handler(KvlabError, _problem)
    _for_everybody(app, room)
    _for_the_trainer(app, room)
    _for_a_browser(app)  # the last: its address fits the others
    return app


def _for_everybody(app: FastAPI, room: Room) -> None:
    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": policy_of(PAGE)})

    @app.post("/join")
    async def join(request: Request) -> dict[str, Any]:
        said = await _object(request)
        address = request.client.host if request.client else "unknown"
        return await room.join(said.get("code"), said.get("name"), said.get("secret"), address)

    @app.post("/events")
    async def events(request: Request) -> dict[str, Any]:
        said = await _object(request)
        first, sent = said.get("first"), said.get("events")
        if not isinstance(first, int) or not isinstance(sent, list):
            raise Refused(422, "first is a number, and events are a list")
        return await room.report(_bearer(request), first, sent)

    @app.get("/openings")
    async def openings() -> dict[str, Any]:
        return await room.openings()


def _for_the_trainer(app: FastAPI, room: Room) -> None:
    @app.get("/state")
    async def state(request: Request) -> dict[str, Any]:
        _must_be_trainer(room, request)
        return await room.state()

    @app.post("/release")
    async def release(request: Request) -> dict[str, Any]:
        _must_be_trainer(room, request)
        said = await _object(request)
        what, exercise = str(said.get("what")), str(said.get("exercise"))
        await room.release(exercise, what, said.get("open") is True)
        return await room.openings()

    @app.post("/clock")
    async def clock(request: Request) -> dict[str, Any]:
        _must_be_trainer(room, request)
        minutes = (await _object(request)).get("minutes")
        if not isinstance(minutes, int | float) or not math.isfinite(minutes):
            raise Refused(422, "minutes are a number")
        await room.set_clock(minutes)
        return await room.openings()


def _for_a_browser(app: FastAPI) -> None:
    @app.get("/{code}")
    async def how_to_join(code: str, request: Request) -> HTMLResponse:
        """For who opens the address of the room in a browser; the page tells no code."""
        if not re.fullmatch(r"[A-Z0-9]{6}", code):
            raise Refused(404, "there is no such page in a room")
        words = html.escape(f"kvlab lab --room {request.base_url}{code} --name NAME")
        return HTMLResponse(f"<!doctype html><title>A kvlab room</title>{_TYPE}<pre>{words}</pre>")


async def _object(request: Request) -> dict[str, Any]:
    """The body, a JSON object. A body that nests without end is refused as well."""
    try:
        said = await request.json()
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Refused(422, "the body is a JSON object")
    return said


def _bearer(request: Request) -> str:
    return request.headers.get("authorization", "").removeprefix("Bearer ")


def _must_be_trainer(room: Room, request: Request) -> None:
    if not room.is_trainer(_bearer(request)):
        raise Refused(403, "this is for the trainer: open the address that kvlab room printed")


async def _problem(_: Request, problem: Exception) -> Response:
    status, headers = 503, {"Retry-After": "2"}
    if isinstance(problem, InvalidArgument):
        status, headers = 422, {}
    elif isinstance(problem, Refused):
        wait = problem.retry_after
        status = problem.status
        headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
    return JSONResponse({"detail": str(problem)}, status, headers)
