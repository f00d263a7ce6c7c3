"""Where an exploration takes place: the server, the explorer's own client, the actors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from kvlab.core.server_url import server_url
from kvlab.errors import InvalidArgument, ServerUnavailable
from kvlab.instruments.explorer.cores import one_core
from kvlab.instruments.explorer.run.actors import Actor
from kvlab.instruments.explorer.run.clients import KvRedis, plain
from kvlab.instruments.explorer.run.events import Faults, Invariant
from kvlab.instruments.explorer.run.footprints import Footprints
from kvlab.instruments.explorer.run.lanes import own_time
from kvlab.instruments.explorer.run.scene import Stage
from kvlab.instruments.explorer.run.script_cache import ScriptCache
from kvlab.server import engines

_WHERE = {"db", "host", "port", "path", "unix_socket_path", "connection_class", "connection_pool"}

Program = Callable[[Any], Any]


@contextmanager
def theatre(
    clients: Sequence[Program] | Mapping[str, Program],
    setup: Callable[[KvRedis], object] | None,
    invariant: Invariant | None,
    faults: Faults,
    max_steps: int,
    engine: str,
    url: str | None,
    client_options: Mapping[str, Any] | None,
    *,
    reduce: bool = False,
) -> Iterator[Stage]:
    """Everything that the runs of an exploration share; gone at the end, however it comes.

    Raises InvalidArgument for clients that are no functions and for a database with keys in it,
    ServerUnavailable when the server ends meanwhile.
    """
    for name, function in (("setup", setup), ("invariant", invariant)):
        if inspect.iscoroutinefunction(function):
            raise InvalidArgument(f"{name} must be a plain function, not an async one")
    if callable(clients):
        raise InvalidArgument("clients must be several functions, or one in a list")
    if not isinstance(clients, Mapping):
        clients = {f"client {number}": program for number, program in enumerate(clients)}
    names, programs = tuple(clients), tuple(clients.values())
    if not programs or not all(map(callable, programs)):
        raise InvalidArgument(f"clients must be one or more functions, not {programs!r:.80}")
    options = dict(client_options or {})
    if elsewhere := options.keys() & _WHERE:
        raise InvalidArgument(f"client_options says {', '.join(sorted(elsewhere))}: say it by url")
    with _server_alive(), ExitStack() as ends:
        ends.enter_context(own_time())
        if url is None:
            server = ends.enter_context(engines.start(engine, unix_socket=True))
            at, pid = server.url, server.pid
        else:
            at, pid = server_url(url), None
        ends.enter_context(one_core(pid))
        kv = ends.enter_context(plain(at, **options))
        inside = ends.enter_context(plain(at))
        if (found := inside.dbsize()) != 0:
            raise InvalidArgument(
                f"the database has {found} keys, and an exploration empties it: name an empty one, "
                "such as redis://127.0.0.1:6379/15"
            )
        if url is not None:
            ends.callback(inside.flushdb)

        def settle() -> None:
            for _ in range(2):  # by the second, all that came before the first has been answered
                inside.ping()

        actors: list[Actor] = []
        for number, program in enumerate(programs):
            actors.append(Actor(number, program, at, settle, options))
            ends.callback(actors[-1].end)
        footprints = Footprints(inside) if reduce else None
        scripts = ScriptCache(inside)
        yield Stage(actors, kv, inside, setup, faults, footprints, max_steps, scripts, names)


@contextmanager
def _server_alive() -> Iterator[None]:
    try:
        yield
    except redis.ConnectionError as problem:
        raise ServerUnavailable(
            f"the server of the exploration does not answer, or ended meanwhile: {problem}"
        ) from problem
