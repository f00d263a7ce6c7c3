"""A small web app as a team would write it with ``kvlab.AsyncKv``: FastAPI on uvicorn.

    python -m kvlab.sample_app              http://127.0.0.1:8000, /openapi.json describes it
    make app ARGS='--port 8080 --workers 2'

A request makes one round trip where one is enough: ``POST /api/work`` reads limiter, session and
flags together. While the store is down, each pattern does what it declares: the limiter's policy
decides, flags have their defaults, the database answers instead of the cache. A request without
any such fallback, or one that must know who the visitor is, is answered with 503 and Retry-After;
the browser keeps its cookie.

The app holds nothing that needs protection: anybody may log in as anybody (``people``). It
listens on loopback alone unless ``--host`` says otherwise.
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
from kvlab.sample_app import errors
from kvlab.sample_app.guard import Guard
from kvlab.sample_app.models import STORE_DOWN, Health
from kvlab.sample_app.routes import board, flags, page, people, profiles, work
from kvlab.sample_app.services import Shared, opened
from kvlab.sample_app.settings import DATABASE, AppSettings, read_settings
from kvlab.sample_app.settings import __doc__ as settings_doc
from kvlab.server.listening import address, listening
from kvlab.server.strict_http import StrictHttp

MAX_BODY = 64 * 1024
_ROUTES = (page, work, people, profiles, board, flags)


def create_app(settings: AppSettings | None = None, trace: Trace | None = None) -> FastAPI:
    """The app, with the settings of the environment unless others are given.

    ``trace`` is called for every round trip to the store.
    """
    chosen = read_settings(os.environ) if settings is None else settings

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
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,  # a redirect would name the host that the request named
    )
    app.add_middleware(Guard, hosts=chosen.hosts)
    errors.install(app)
    for module in _ROUTES:
        app.include_router(module.router)

    @app.get("/healthz", tags=["health"])
    async def healthz() -> Health:
        """The process answers."""
        return Health(status="ok")

    @app.get("/readyz", tags=["health"], responses=STORE_DOWN)
    async def readyz(shared: Shared) -> Health:
        """The process and the store answer."""
        await shared.kv.run(kvlab.Op("PING", idempotent=True))
        return Health(status="ok")

    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM. An error at the start is one line and exit status 1."""
    given = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # runs every cleanup
    try:
        settings = read_settings(os.environ)
        with kvlab.connect(prefix=settings.prefix) as kv:
            kv.run(kvlab.Op("PING"))
            store = kv.where
        bound = listening(given.host, given.port)
        # All workers use one database.
        with Origin(settings.database) as origin:
            os.environ[DATABASE] = origin.url
            _serve(given.workers, bound, settings, store)
    except (KvlabError, SQLAlchemyError) as problem:
        sys.exit(f"app: {str(problem).splitlines()[0]}")
    except KeyboardInterrupt:
        print("ended", file=sys.stderr)


def _serve(workers: int, bound: socket.socket, settings: AppSettings, store: str) -> None:
    host, port = bound.getsockname()[:2]
    config = uvicorn.Config(
        "kvlab.sample_app.app:create_app",
        factory=True,
        workers=workers,
        # Otherwise uvicorn believes X-Forwarded-For of any peer on loopback.
        proxy_headers=False,
        http=StrictHttp,
        server_header=False,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
        timeout_worker_healthcheck=30,  # a worker on a busy laptop is slow, not dead
    )
    limiter = settings.limiter
    print(
        f"app: serving {address(host, port)} with {type(limiter).__name__}, "
        f"{limiter.limit} per {limiter.window:g} s; the store is {store}",
        flush=True,
    )
    if workers > 1:
        Multiprocess(config, [bound]).run()
    else:
        uvicorn.Server(config).run([bound])


def _end_with_parent() -> None:
    """In a worker: end when the process that started this worker is gone, even killed."""
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
        epilog=settings_doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address (default: loopback)")
    parser.add_argument(
        "--port", type=_port, default=8000, help="the port; 0 for a free one (default: 8000)"
    )
    parser.add_argument(
        "--workers", type=_workers, default=1, help="how many processes serve (default: 1)"
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"a port is from 0 to 65535, not {text!r:.40}")
    return int(text)


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 64):
        raise argparse.ArgumentTypeError(f"from 1 to 64 processes, not {text!r:.40}")
    return int(text)
