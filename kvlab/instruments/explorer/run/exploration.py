"""What all runs of an exploration share: the server, the client programs, the settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import redis

from kvlab.core.server_url import server_url
from kvlab.errors import InvalidArgument, ServerUnavailable
from kvlab.instruments.explorer.clients.clock import RunClock
from kvlab.instruments.explorer.clients.helper_threads import helpers_in_hand
from kvlab.instruments.explorer.clients.leftovers import Leftovers
from kvlab.instruments.explorer.clients.stops import Sending, Stop
from kvlab.instruments.explorer.clients.time_functions import clients_own_time
from kvlab.instruments.explorer.connections.of_libraries import steered
from kvlab.instruments.explorer.connections.redis_clients import KvRedis, direct, plain
from kvlab.instruments.explorer.connections.server_side import ServerSide
from kvlab.instruments.explorer.cores import one_core
from kvlab.instruments.explorer.run.client_program import ClientProgram
from kvlab.instruments.explorer.run.footprints import Footprints
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.instruments.explorer.server_state.clean_start import CleanStart
from kvlab.instruments.explorer.server_state.script_cache import ScriptCache
from kvlab.instruments.explorer.server_state.write_log import OPTIONS, WriteLog
from kvlab.server import engines


@dataclass(slots=True)
class Exploration:
    """``kv`` is for setup and invariant (a new one after a run that changed it), ``server`` for
    the explorer itself. ``footprints`` is None when nobody asks which steps commute.
    ``write_log`` is None when there are no failovers.
    ``clock``: when the exploration began; ``time_passes``: a client has slept or waited in vain.
    Of the last run: ``setup_answers`` is what setup was told, ``first_stops`` where the clients
    stood when it began."""

    settings: Settings
    server: redis.Redis
    side: ServerSide
    clean_start: CleanStart
    kv: KvRedis
    programs: Sequence[ClientProgram]
    scripts: ScriptCache
    footprints: Footprints | None
    write_log: WriteLog | None
    clock: RunClock = field(default_factory=RunClock)
    time_passes: bool = False
    setup_answers: str = ""
    first_stops: Sequence[Stop] = ()

    def begin_clean(self) -> None:
        """Take away what earlier runs have left on the server and on connections."""
        while self.side.own_connections:
            self.side.own_connections.pop().close()
        everywhere = self.clean_start.put_back()
        for program in self.programs:
            if everywhere or program.thread.unclean:
                program.drop()
        if everywhere or self.kv.unclean:
            self.kv.close()
            self.kv = plain(self.side, **self.settings.client_options)
        self.kv.kv.round_trips = 0
        self.scripts.begin()
        if self.write_log is not None:
            self.write_log.begin()

    def fail_over(self, lost: int) -> None:
        """Go on with a server that has not got the last ``lost`` writes of the clients."""
        assert self.write_log is not None
        self.write_log.lose(lost)
        self.scripts.flush()
        self.server.client_kill_filter(_type="normal", skipme=True)
        self.side.settle()
        for program in self.programs:
            thread = program.thread
            in_use = any(not isinstance(left, str) for left in thread.unclean)  # WATCH, or MULTI
            thread.closed = isinstance(thread.stop, Sending) and not in_use
            thread.unclean.add("connections are closed")
        self.kv.close()
        self.kv = plain(self.side, **self.settings.client_options)

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
        ends.enter_context(helpers_in_hand())
        url = ends.enter_context(_server(settings))
        server = ends.enter_context(direct(url))
        if (found := server.dbsize()) != 0:
            raise InvalidArgument(
                f"the database has {found} keys, and an exploration empties it: name an empty one, "
                "such as redis://127.0.0.1:6379/15"
            )
        private = settings.url is None
        leftovers = Leftovers(private=private)
        clean_start = CleanStart(server, leftovers, private=private)
        if not private:
            ends.callback(clean_start.put_back)
        fake = private and settings.engine == "fakeredis"
        side = ServerSide(url, server, leftovers, tells_who_waits=not fake)
        if settings.own_connections:
            ends.enter_context(steered(side))
        programs: list[ClientProgram] = []
        for number, program in enumerate(settings.clients.values()):
            programs.append(ClientProgram(number, program, side, settings.client_options))
            ends.callback(programs[-1].end)
        exploration = Exploration(
            settings=settings,
            server=server,
            side=side,
            clean_start=clean_start,
            kv=plain(side, **settings.client_options),
            programs=programs,
            scripts=ScriptCache(server),
            footprints=Footprints(server) if settings.reduce else None,
            write_log=WriteLog(server) if settings.faults.failovers else None,
        )
        if exploration.write_log is not None:
            side.has_replica = True
            ends.callback(exploration.write_log.close)
        ends.callback(lambda: exploration.kv.close())
        yield exploration
        side.only_ours()


@contextmanager
def _server(settings: Settings) -> Iterator[str]:
    """The address of the server: of a private one, which shares a core with this thread."""
    if settings.url is not None:
        yield server_url(settings.url)
        return
    options = OPTIONS if settings.faults.failovers else {}
    with (
        engines.start(settings.engine, options=options, unix_socket=True) as server,
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
