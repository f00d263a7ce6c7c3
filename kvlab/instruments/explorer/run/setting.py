"""Where an exploration takes place: the server, the explorer's own client, the actors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import redis

from kvlab.core.server_url import server_url
from kvlab.errors import InvalidArgument, ServerUnavailable
from kvlab.instruments.explorer.cores import one_core
from kvlab.instruments.explorer.run.actors import Actor
from kvlab.instruments.explorer.run.clients import plain
from kvlab.instruments.explorer.run.footprints import Footprints
from kvlab.instruments.explorer.run.lanes import own_time
from kvlab.instruments.explorer.run.scene import Stage
from kvlab.instruments.explorer.run.script_cache import ScriptCache
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.server import engines


@contextmanager
def theatre(settings: Settings) -> Iterator[Stage]:
    """Everything that the runs of an exploration share; gone at the end, however it comes.

    Raises InvalidArgument for a database with keys in it, ServerUnavailable when the server ends
    meanwhile.
    """
    url, options = settings.url, settings.client_options
    with _server_alive(), ExitStack() as ends:
        ends.enter_context(own_time())
        if url is None:
            server = ends.enter_context(engines.start(settings.engine, unix_socket=True))
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
        for number, program in enumerate(settings.clients.values()):
            actors.append(Actor(number, program, at, settle, options))
            ends.callback(actors[-1].end)
        footprints = Footprints(inside) if settings.reduce else None
        scripts = ScriptCache(inside)
        yield Stage(actors, kv, inside, settings, footprints, scripts)


@contextmanager
def _server_alive() -> Iterator[None]:
    try:
        yield
    except redis.ConnectionError as problem:
        raise ServerUnavailable(
            f"the server of the exploration does not answer, or ended meanwhile: {problem}"
        ) from problem
