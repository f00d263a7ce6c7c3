"""Sessions, scores and queues."""

from __future__ import annotations

import json
import pickle
import secrets
from dataclasses import replace
from typing import Any

import redis
import redis.asyncio

from benchmarks.libraries.caches import django_redis_cache
from benchmarks.libraries.promises import (
    QUEUE,
    SCORE,
    SESSION,
    Library,
    aconnected,
    connected,
    elsewhere,
)
from kvlab import Leaderboard, SessionStore
from kvlab.leaderboard import NaiveLeaderboard
from kvlab.sessions import NaiveSessions

SID = "0123456789abcdef0123456789abcdef"

# --- sessions: a slow request changes the session of ann while a log-out ends it ---


def naive_setup(kv: Any) -> None:
    kv.set(f"session:{SID}", '{"user": "ann"}', ex=60)


def naive_slow(kv: Any, url: str) -> None:
    NaiveSessions(kv).update(SID, page=2)


def naive_out(kv: Any, url: str) -> bool:
    NaiveSessions(kv).destroy(SID)
    return True


def flask_setup(kv: Any) -> None:
    import msgspec

    kv.set(f"session:{SID}", msgspec.msgpack.encode({"user": "ann"}), ex=60)


def _flask(url: str, change: Any) -> bool:
    from flask import Flask, session
    from flask_session import Session

    app = Flask("app")
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=connected(url))
    Session(app)
    headers = {"Cookie": f"session={SID}"}
    with app.test_request_context("/", headers=headers):
        change(session)
        app.process_response(app.make_response("done"))
    return True


def flask_slow(kv: Any, url: str) -> None:
    _flask(url, lambda session: session.update(page=2))


def flask_out(kv: Any, url: str) -> bool:
    return _flask(url, lambda session: session.clear())


def starsessions_setup(kv: Any) -> None:
    times = {"lifetime": 60, "created": 4_000_000_000, "last_access": 4_000_000_000}
    kv.set(f"starsessions.{SID}", json.dumps({"user": "ann", "__metadata__": times}), ex=60)


async def _starsessions(url: str, change: Any) -> bool:
    from starlette.requests import HTTPConnection
    from starsessions.serializers import JsonSerializer
    from starsessions.session import SessionHandler
    from starsessions.stores.redis import RedisStore

    store = RedisStore(connection=aconnected(url))
    connection = HTTPConnection({"type": "http", "headers": [], "session": {}})
    handler = SessionHandler(
        connection=connection, session_id=SID, store=store, serializer=JsonSerializer(),
        lifetime=60,
    )  # fmt: skip
    connection.scope["session_handler"] = handler
    await handler.load()
    change(connection.session)
    if handler.is_empty:
        await handler.destroy()
    else:
        await handler.save(3600)
    return True


async def starsessions_slow(kv: Any, url: str) -> None:
    await _starsessions(url, lambda session: session.update(page=2))


async def starsessions_out(kv: Any, url: str) -> bool:
    return await _starsessions(url, lambda session: session.clear())


def aiohttp_setup(kv: Any) -> None:
    kv.set(f"AIOHTTP_SESSION_{SID}", '{"created": 4000000000, "session": {"user": "ann"}}', ex=60)


async def _aiohttp(url: str, change: Any) -> bool:
    from aiohttp import web
    from aiohttp.test_utils import make_mocked_request
    from aiohttp_session.redis_storage import RedisStorage

    storage = RedisStorage(aconnected(url), max_age=60)
    request = make_mocked_request("GET", "/", headers={"Cookie": f"AIOHTTP_SESSION={SID}"})
    session = await storage.load_session(request)
    change(session)
    await storage.save_session(request, web.Response(), session)
    return True


async def aiohttp_slow(kv: Any, url: str) -> None:
    await _aiohttp(url, lambda session: session.__setitem__("page", 2))


async def aiohttp_out(kv: Any, url: str) -> bool:
    return await _aiohttp(url, lambda session: session.invalidate())


def _django_session(url: str) -> Any:
    cache = django_redis_cache(url)
    from django.contrib.sessions.backends import cache as backend

    backend.caches["default"] = cache
    return backend.SessionStore(SID)


def django_setup(kv: Any) -> None:
    name = f":1:django.contrib.sessions.cache{SID}"
    kv.set(name, pickle.dumps({"user": "ann"}), ex=60)


def django_slow(kv: Any, url: str) -> None:
    session = _django_session(url)
    session["page"] = 2
    session.save()


def django_out(kv: Any, url: str) -> bool:
    _django_session(url).flush()
    return True


STORE = SessionStore(idle=600, absolute=3600)
FIRST: dict[str, str] = {}


def kvlab_setup(kv: Any) -> None:
    from kvlab import Kv

    FIRST["sid"] = Kv(kv, prefix="kv:").run(STORE.create("ann", {"user": "ann"})).id


def kvlab_slow(kv: Any, url: str) -> None:
    kv.run(STORE.update(FIRST["sid"], {"page": 2}))


def kvlab_out(kv: Any, url: str) -> bool:
    kv.run(STORE.destroy(FIRST["sid"]))
    return True


# --- scores: two adds of 1 for one player ---


def naive_adds(kv: Any, url: str) -> float:
    board = NaiveLeaderboard(kv)
    board.increment_score("ann", 1)
    return board.get_user_score("ann") or 0.0


def leaderboard_adds(kv: Any, url: str) -> float:
    from leaderboard.leaderboard import Leaderboard as Peer

    board = Peer("board", connection=connected(url))
    board.change_score_for("ann", 1)
    return float(board.score_for("ann"))


def walrus_adds(kv: Any, url: str) -> float:
    import walrus

    database = walrus.Database(connection_pool=redis.ConnectionPool.from_url(url))
    board = database.ZSet("board")
    board.incr("ann", 1)
    return float(board.score("ann"))


def kvlab_adds(kv: Any, url: str) -> float:
    op_id = secrets.token_hex(8)
    done = kv.run(Leaderboard("board").submit("ann", 1, mode="add", op_id=op_id))
    return float(done.entry.score)


# --- queues: one job, two workers ---


def rpush_job(kv: Any) -> None:
    kv.rpush("jobs", "job")


def naive_works(kv: Any, url: str) -> Any:
    return kv.lpop("jobs")


def huey_setup(kv: Any) -> None:
    kv.lpush("huey.redis.app", "job")


def huey_works(kv: Any, url: str) -> Any:
    from huey import RedisHuey

    return RedisHuey("app", url=url, blocking=False).storage.dequeue()


def rq_setup(kv: Any) -> None:
    kv.rpush("rq:queue:app", "job")


def rq_works(kv: Any, url: str) -> Any:
    from rq import Queue

    found = Queue.lmove(connected(url), "rq:queue:app", None)
    return found and found[1]


def dramatiq_setup(kv: Any) -> None:
    kv.hset("dramatiq:default.msgs", "job", "job")
    kv.rpush("dramatiq:default", "job")


def dramatiq_works(kv: Any, url: str) -> Any:
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=url, dead_message_ttl=60_000)
    broker.broker_id = f"worker-{id(kv) % 2}"
    found = broker.do_fetch("default", 1)
    return found[0] if found else None


def _two(family: Any, name: str, package: str, clients: Any, setup: Any, *modules: str,
         says: str = "") -> Library:  # fmt: skip
    both = clients if isinstance(clients, tuple) else (clients, clients)
    return Library(family, name, package, both, modules, setup, tuple(says.split()))


OTHERS = (
    _two(SESSION, "tutorial, sessions", "", (naive_slow, naive_out), naive_setup),
    _two(SESSION, "flask-session", "flask-session", (flask_slow, flask_out), flask_setup,
         "flask_session.redis", "msgspec"),
    _two(SESSION, "starsessions", "starsessions", (starsessions_slow, starsessions_out),
         starsessions_setup, "starsessions.stores.redis"),
    _two(SESSION, "aiohttp-session", "aiohttp-session", (aiohttp_slow, aiohttp_out),
         aiohttp_setup, "aiohttp_session.redis_storage", "aiohttp.test_utils"),
    _two(SESSION, "Django sessions on django-redis", "django-redis", (django_slow, django_out),
         django_setup, "django_redis.cache", says="UpdateError"),
    _two(SESSION, "kvlab SessionStore", "", (kvlab_slow, kvlab_out), kvlab_setup),
    _two(SCORE, "tutorial, leaderboard", "", naive_adds, None),
    replace(
        _two(SCORE, "leaderboard", "leaderboard", leaderboard_adds, None,
             "leaderboard.leaderboard"),
        undriven="it sends ZINCRBY as redis-py 2 took it: each add raises under redis-py 8",
    ),
    _two(SCORE, "walrus ZSet", "walrus", walrus_adds, None, "walrus"),
    _two(SCORE, "kvlab Leaderboard", "", kvlab_adds, None),
    _two(QUEUE, "a list and LPOP", "", naive_works, rpush_job),
    _two(QUEUE, "huey", "huey", huey_works, huey_setup, "huey"),
    replace(
        _two(QUEUE, "arq", "arq", elsewhere, None),
        undriven="it needs redis-py below 6, and the matrix is of redis-py 8",
    ),
    _two(QUEUE, "rq", "rq", rq_works, rq_setup, "rq"),
    _two(QUEUE, "dramatiq", "dramatiq", dramatiq_works, dramatiq_setup, "dramatiq.brokers.redis"),
)  # fmt: skip
