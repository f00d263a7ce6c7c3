"""A small web app as a team would write it with ``kvlab.AsyncKv``: FastAPI on uvicorn.

    python -m kvlab.sample_app              http://127.0.0.1:8000, /openapi.json describes it
    make app ARGS='--port 8080 --workers 2'

One request is one round trip where it can be: ``POST /api/work`` asks limiter, session and flags
together. While the store is down each pattern does what it declares: the limiter's policy
decides, nobody is logged in, flags have their defaults, the database answers for the cache.
What has nothing to fall back on answers 503 with Retry-After.

It holds nothing that needs protection: anybody may log in as anybody (``people``). Only
loopback reaches it unless ``--host`` says otherwise.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from uvicorn.supervisors import Multiprocess

import kvlab
from kvlab.core.settings import Trace
from kvlab.errors import KvlabError
from kvlab.instruments.faults.slow_database import Origin
from kvlab.sample_app import board as app_board
from kvlab.sample_app import errors as app_errors
from kvlab.sample_app import flags as app_flags
from kvlab.sample_app import page as app_page
from kvlab.sample_app import people as app_people
from kvlab.sample_app import profiles as app_profiles
from kvlab.sample_app import settings as app_settings
from kvlab.sample_app import work as app_work
from kvlab.sample_app.guard import Guard
from kvlab.sample_app.models import STORE_DOWN, Health
from kvlab.sample_app.services import Shared, opened
from kvlab.sample_app.settings import Settings

MAX_BODY = 64 * 1024
_ROUTERS = (app_work, app_people, app_profiles, app_board, app_flags)


def create_app(settings: Settings | None = None, trace: Trace | None = None) -> FastAPI:
    """The app; settings are those of the environment unless given.

    ``trace`` is told of each round trip to the store.
    """
    chosen = app_settings.read(os.environ) if settings is None else settings

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        _end_with_parent()
        async with opened(chosen, trace) as services:
            yield {"services": services}

    app = FastAPI(
        title="kvlab sample app",
        version=kvlab.__version__,
        description=(__doc__ or "").partition("\n\n    ")[0],
        lifespan=lifespan,
        max_body_size=MAX_BODY,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Guard)
    app_errors.install(app)
    app.include_router(app_page.router)
    for module in _ROUTERS:
        app.include_router(module.router)

    @app.get("/healthz", tags=["health"])
    async def healthz() -> Health:
        """This process answers."""
        return Health(status="ok")

    @app.get("/readyz", tags=["health"], responses=STORE_DOWN)
    async def readyz(shared: Shared) -> Health:
        """The store answers, too."""
        await shared.kv.run(kvlab.Op("PING", idempotent=True))
        return Health(status="ok")

    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM. What is wrong at the start is one line and exit status 1."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that what is open is closed
    try:
        settings = app_settings.read(os.environ)
        with kvlab.connect(prefix=settings.prefix) as kv:
            kv.run(kvlab.Op("PING"))
            store = kv.where
        listening = _listening(given.host, given.port)
        # One database for all workers.
        with Origin(settings.database) as origin:
            os.environ[app_settings.BEGINS + "DATABASE"] = origin.url
            _serve(given.workers, listening, settings, store)
    except (KvlabError, SQLAlchemyError) as problem:
        sys.exit(f"app: {str(problem).splitlines()[0]}")
    except KeyboardInterrupt:
        print("ended", file=sys.stderr)


def _serve(workers: int, listening: socket.socket, settings: Settings, store: str) -> None:
    host, port = listening.getsockname()[:2]
    config = uvicorn.Config(
        "kvlab.sample_app.app:create_app",
        factory=True,
        workers=workers,
        # Or it believes X-Forwarded-For of any peer on loopback.
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
        timeout_worker_healthcheck=30,  # a laptop that is busy is no dead worker
    )
    limiter = settings.limiter
    shown = f"[{host}]" if ":" in host else host
    print(
        f"app: serving http://{shown}:{port} with {type(limiter).__name__}, "
        f"{limiter.limit} per {limiter.window:g} s; the store is {store}",
        flush=True,
    )
    if workers > 1:
        Multiprocess(config, [listening]).run()
    else:
        uvicorn.Server(config).run([listening])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio turns Nagle's algorithm off only where the protocol is said to be TCP, not 0:
        # else each answer on a kept connection waits 40 ms for the client's acknowledgement.
        listening = socket.socket(family, kind, protocol or socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as problem:
        raise KvlabError(
            f"cannot listen on {host}, port {port}: {problem.strerror}; "
            "--port takes another, 0 a free one"
        ) from None
    return listening


def _end_with_parent() -> None:
    """In a worker: end when the process that started it is gone, killed for one."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=watch, daemon=True).start()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kvlab.sample_app",
        description="Serve the sample web app.",
        epilog=app_settings.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address (default: loopback)")
    parser.add_argument("--port", type=_port, default=8000, help="0 for a free one (8000)")
    parser.add_argument("--workers", type=_workers, default=1, help="processes that serve (1)")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"a port is from 0 to 65535, not {text!r:.40}")
    return int(text)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise argparse.ArgumentTypeError(f"from 1 to 64 processes, not {text!r:.40}")
    return int(text)
