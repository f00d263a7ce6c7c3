"""What all runs of an exploration share: the server, the client programs, the settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import redis

from kvlab.core.server_url import server_url
from kvlab.errors import InvalidArgument, ServerUnavailable
from kvlab.instruments.explorer.clients.client_program import ClientProgram
from kvlab.instruments.explorer.clients.redis_clients import KvRedis, plain
from kvlab.instruments.explorer.clients.stops import Stop
from kvlab.instruments.explorer.clients.time_functions import clients_own_time
from kvlab.instruments.explorer.cores import one_core
from kvlab.instruments.explorer.run.footprints import Footprints
from kvlab.instruments.explorer.run.script_cache import ScriptCache
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.server import engines


@dataclass(frozen=True, slots=True)
class Exploration:
    """``kv`` is for setup and invariant, ``server`` for the explorer itself.

    ``footprints`` is None when nobody asks which steps commute.
    """

    settings: Settings
    programs: Sequence[ClientProgram]
    kv: KvRedis
    server: redis.Redis
    scripts: ScriptCache
    footprints: Footprints | None

    @property
    def stops(self) -> list[Stop]:
        """Where the clients stand."""
        return [program.thread.stop for program in self.programs]


@contextmanager
def prepared(settings: Settings) -> Iterator[Exploration]:
    """An exploration that can begin; its server, threads and connections end with the block.

    Raises InvalidArgument for a database that has keys, ServerUnavailable when the server ends
    meanwhile.
    """
    with _server_alive(), ExitStack() as ends:
        ends.enter_context(clients_own_time())
        url = ends.enter_context(_server(settings))
        kv = ends.enter_context(plain(url, **settings.client_options))
        server = ends.enter_context(plain(url))
        if (found := server.dbsize()) != 0:
            raise InvalidArgument(
                f"the database has {found} keys, and an exploration empties it: name an empty one, "
                "such as redis://127.0.0.1:6379/15"
            )
        if settings.url is not None:
            ends.callback(server.flushdb)

        def settle() -> None:
            for _ in range(2):  # at the second answer, all that came before the first is answered
                server.ping()

        programs: list[ClientProgram] = []
        for number, program in enumerate(settings.clients.values()):
            programs.append(ClientProgram(number, program, url, settle, settings.client_options))
            ends.callback(programs[-1].end)
        footprints = Footprints(server) if settings.reduce else None
        yield Exploration(settings, programs, kv, server, ScriptCache(server), footprints)


@contextmanager
def _server(settings: Settings) -> Iterator[str]:
    """The address of the server: of a private one, which shares a core with this thread."""
    if settings.url is not None:
        yield server_url(settings.url)
        return
    with (
        engines.start(settings.engine, unix_socket=True) as server,
        one_core(server.pid),
    ):
        yield server.url


@contextmanager
def _server_alive() -> Iterator[None]:
    try:
        yield
    except redis.ConnectionError as problem:
        raise ServerUnavailable(
            f"the server of the exploration does not answer, or ended meanwhile: {problem}"
        ) from problem
