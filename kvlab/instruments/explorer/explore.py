"""Run small concurrent programs on a real server under every order of their commands.

:func:`explore` takes functions that use a redis-py client and runs them again and again, each
time with their commands in another order, until no order is left. Faults can happen between the
commands, each fault at every point where it can. The shortest run that breaks the invariant is
shown::

    def buy(kv):
        if int(kv.get("stock")) > 0:
            kv.decr("stock")

    explore([buy, buy], setup=lambda kv: kv.set("stock", 1),
            invariant=lambda world: int(world.kv.get("stock")) >= 0)

A step is one write to the server: a command, a pipeline, a MULTI with all that is in it. What a
client does without the server belongs to the step before it. Where a client touches something
else that clients share (a row, a global), :func:`step` makes that a step of its own. When a run
begins, every client has run up to its first command.

Time stands still for the clients. A sleep, or a blocking command that times out, puts their clocks
forward, and every TTL with them: real time does not count. Without ``expiries``, the sleep of one
client does not end a TTL that another client has set and that can still go on.

A failover (``failovers``) replaces the server by a replica that has not got its last writes, as
asynchronous replication allows. It comes before a step of a client: let a client look again at what
must not be lost. A client about to send finds its connection closed and makes another one, or else
notices too late, and its request is lost (``q0``). WAIT is answered at once, alone or at the end of
a pipeline: what its connection wrote before, and all before that, is not lost; or WAIT is in vain
and answered with 0, which is a fault too. A failover that comes while a command is under way is a
failover and a lost reply: two faults.

Not promised: orders inside a pipeline that is no MULTI; reads from a replica; the order of the
asyncio tasks of one client, nor a blocking command that another task would end; pub/sub; TTLs of
hash fields; what WAIT says to a client whose blocking command another client has ended. A client
that sleeps twice in a row wakes only when another client has moved, or when no other can. The
server's own clock is real: what a script computes from TIME, or the server from idle times
(XAUTOCLAIM), notices neither a sleep nor a TTL that a fault ends. Keep TTLs above a second.

Mutual exclusion is asked for with two steps that touch the same thing, and a client that crashes is
no longer inside::

    def holder(kv):
        with RedisLock(kv, "door", timeout=10):
            step("enters", "the room")
            step("leaves", "the room")

    explore([holder] * 2, crashes=True,
            invariant=lambda world: world.most_inside("enters", "leaves") <= 1)

A client's clocks (``time``, ``datetime``) are its own, also by the names of ``from time import
time``. A clock that an object or a default argument has kept is real: what the client then does
differs from run to run, and raises ``Nondeterministic``. ``random`` has the same seed in each run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kvlab.errors import InvalidArgument
from kvlab.instruments.explorer.clients.client_thread import Hung, step
from kvlab.instruments.explorer.clients.leftovers import Refused
from kvlab.instruments.explorer.connections.redis_clients import KvRedis
from kvlab.instruments.explorer.findings import found_alone
from kvlab.instruments.explorer.kept import Kept
from kvlab.instruments.explorer.processes import found_together
from kvlab.instruments.explorer.run.exploration import prepared
from kvlab.instruments.explorer.run.settings import (
    ALL_FAULTS,
    NO_FAULTS,
    Faults,
    Program,
    Settings,
    named,
)
from kvlab.instruments.explorer.run.steps import Invariant, World
from kvlab.instruments.explorer.schedules import Spelled, made_again, recorded, rehearse, shortest
from kvlab.instruments.explorer.search import Nondeterministic
from kvlab.instruments.explorer.story import Story, Violated
from kvlab.server import engines

__all__ = ["Story", "Violated", "World", "explore", "replay", "step"]


def explore(
    clients: Sequence[Program] | Mapping[str, Program],
    *,
    invariant: Invariant | None = None,
    setup: Callable[[KvRedis], object] | None = None,
    faults: Faults = NO_FAULTS,
    crashes: bool = False,
    lost_replies: bool = False,
    lost_requests: bool = False,
    expiries: bool = False,
    script_flushes: bool = False,
    failovers: bool = False,
    clock_jumps: float | Sequence[float] = (),
    max_faults: int = 1,
    expected: type[BaseException] | tuple[type[BaseException], ...] = (),
    reduce: bool = False,
    max_schedules: int = 100_000,
    max_seconds: float = 300.0,
    max_steps: int = 1000,
    engine: str | None = None,
    url: str | None = None,
    client_options: Mapping[str, Any] | None = None,
    own_connections: bool = False,
    processes: int = 1,
    progress: bool = True,
) -> Story:
    """Run the clients under every order of their steps, and of the faults that are allowed.

    ``assert explore([buy, buy], setup=one_in_stock, invariant=never_oversold)`` fails with the
    shortest run that breaks the invariant. These three functions take a client or the world.

    ``clients``: functions of one argument, a redis-py client (for an ``async def``, a client of
    ``redis.asyncio``) whose ``run`` also takes ops and flows; a mapping gives the functions names.
    The client is made as ``redis.Redis(**client_options)`` is made: it retries a failed command
    ten times, unless its ``retry`` says otherwise. Give a library its connections
    (``redis.Redis(connection_pool=kv.connection_pool)``): others are not seen, and are refused.

    ``own_connections``: a library that connects with redis-py itself, from a URL or from
    arguments, just works. All its connections lead to the server of the exploration, whatever
    address, database and password they name; they retry without a pause, and close when their
    client ends. Make the library's object in the client, so that each run has a new one.

    ``setup(client)`` runs before each run, on a server as it was found: keys, settings, users,
    functions and replication that a run left are put back. A command whose effect cannot be put
    back (CLIENT PAUSE, SHUTDOWN …) is refused.

    ``invariant(world)`` is asked at the end of each run, with a :class:`World`: it returns whether
    all is well, or raises AssertionError. A deadlock breaks the story, and so does a client that
    raises: except for the classes in ``expected``, and, in a run with a fault or a time-out, for
    an error that says that no answer came (ConnectionError, TimeoutError, OutcomeUnknown,
    ServerUnavailable). ``story.excused`` counts them. A run of more than ``max_steps`` is broken
    off: the story is then undecided.

    ``faults``: the kinds of fault that are allowed, such as ``ALL_FAULTS`` or
    ``Faults(crashes=True)``; at most ``max_faults`` of them happen in one run. The arguments
    ``crashes`` to ``clock_jumps`` allow one kind each, as the fields of :class:`Faults` do, in
    addition to ``faults``; ``clock_jumps`` may be one number.

    ``reduce``: of the runs that differ only in the order of neighbouring steps that touch
    different keys, or that change nothing, make one. Right only if the clients share nothing but
    the server, or mark what they share with :func:`step`, and if the invariant asks for results
    and data, not for the order in the trace.

    ``processes``: so many processes search at once, each with a server and a core of its own; the
    story is the same. They are forked from this process: what the functions leave in variables
    stays in the fork, but they share a file or a database that they use. Not with ``reduce`` or
    ``url``, nor where there is no fork (Windows).

    The exploration runs on a private server of ``engine`` (else Valkey, or the first engine that
    can start here), or on ``url``: a database that must be empty, and that is emptied before each
    run and at the end. While it runs, this thread and the
    private server share one core, since only one of them works at a time.

    Raises InvalidArgument for bad arguments, ``Hung`` for a client that waits for something else
    than the server, ``Nondeterministic`` for a client that does not repeat itself, with the step
    that differs and the variables that were kept, ``Refused`` for a command that cannot be
    explored (all three are KvlabError), ServerUnavailable when the server ends meanwhile,
    KvlabError when one of the processes is killed.
    """
    allowed = Faults(
        crashes=crashes,
        lost_replies=lost_replies,
        lost_requests=lost_requests,
        expiries=expiries,
        script_flushes=script_flushes,
        failovers=failovers,
        clock_jumps=_several(clock_jumps),
    )
    settings = Settings(
        clients=named(clients),
        setup=setup,
        invariant=invariant,
        faults=faults | allowed if isinstance(faults, Faults) else faults,
        max_faults=max_faults,
        expected=expected,  # type: ignore[arg-type]
        reduce=reduce,
        max_schedules=max_schedules,
        max_seconds=max_seconds,
        max_steps=max_steps,
        engine=_chosen(engine, url),
        url=url,
        client_options={} if client_options is None else client_options,
        own_connections=own_connections,
        processes=processes,
        progress=progress,
    )
    kept = Kept([*settings.clients.values(), setup, invariant])
    try:
        return _explored(settings)
    except Nondeterministic as problem:
        names = ", ".join(kept.changed())
        more = f". Not as when the exploration began: {names}" if names else ""
        raise Nondeterministic(f"{problem}{more}") from None
    except (Refused, Hung) as problem:  # its message is all that matters
        problem.__notes__ = []
        raise problem.with_traceback(None) from None


def replay(
    schedule: str,
    clients: Sequence[Program] | Mapping[str, Program],
    *,
    invariant: Invariant | None = None,
    setup: Callable[[KvRedis], object] | None = None,
    clock_jumps: float | Sequence[float] = (),
    expected: type[BaseException] | tuple[type[BaseException], ...] = (),
    max_steps: int = 1000,
    engine: str | None = None,
    url: str | None = None,
    client_options: Mapping[str, Any] | None = None,
    own_connections: bool = False,
) -> Story:
    """Run one schedule, as a :class:`Story` prints it: ``replay("0 0 1 x1 0", clients=…)``.

    ``0``: client 0 goes on. ``x0``: client 0 crashes; ``r0`` and ``q0``: the reply or the request
    of its next command is lost; ``t0``: its blocking command times out; ``j0``: its clock has
    jumped. ``e:key``: the key's TTL ends. ``f``: the server forgets its scripts.
    ``p2``: a replica without the last 2 writes takes its place. ``w0``: its WAIT is in vain.

    After the end of the schedule the clients go on in their order: "0" is the default schedule. The
    other arguments are those of :func:`explore` (``clock_jumps`` too); every fault that the
    schedule names is allowed. The story shows the run whether the invariant holds or not. Raises
    InvalidArgument for a choice that is not possible, and for a schedule without one.
    """
    tokens = schedule.split() if isinstance(schedule, str) else []
    if not tokens:
        raise InvalidArgument(f'schedule must be a text like "0 0 1 x1 0", not {schedule!r:.80}')
    failing_over = any(token[0] in "pw" for token in tokens)
    settings = Settings(
        clients=named(clients),
        setup=setup,
        invariant=invariant,
        faults=ALL_FAULTS | Faults(failovers=failing_over, clock_jumps=_several(clock_jumps)),
        max_faults=len(tokens),
        expected=expected,  # type: ignore[arg-type]
        max_steps=max_steps,
        engine=_chosen(engine, url),
        url=url,
        client_options={} if client_options is None else client_options,
        own_connections=own_connections,
    )
    began = time.perf_counter()
    with prepared(settings) as exploration:
        while not rehearse(exploration, tokens):
            pass
        shown = recorded(exploration, Spelled(tokens))
    broken, undecided = (Counter([why] if why else []) for why in (shown.problem, shown.undecided))
    return Story(1, 1, True, time.perf_counter() - began, broken, shown, undecided)


def _chosen(engine: str | None, url: str | None) -> str:
    """The engine of the private server; with ``url`` no server is started."""
    if engine is None:
        return "valkey" if url is not None else engines.first()
    return engine


def _explored(settings: Settings) -> Story:
    alone = settings.processes == 1
    if not alone:
        found = found_together(settings)
    with prepared(settings) as exploration:
        if alone:
            found = found_alone(exploration)
            made_again(exploration, found)
        found.all_must_have_moved(settings.names)
        shown = shortest(exploration, found)
    return Story(
        schedules=found.schedules,
        at_least=found.schedules + found.unexplored,
        complete=not found.unexplored,
        seconds=found.seconds,
        broken=found.broken,
        shortest=shown,
        undecided=found.undecided,
        faults=found.faults,
        absent=tuple(kind for kind in settings.faults.kinds if kind not in found.faults),
        excused=found.excused,
        waits=found.waits,
        sends_time=() if settings.faults.clock_jumps else tuple(sorted(found.sends_time)),
        settings=settings,
    )


def _several(jumps: float | Sequence[float]) -> Sequence[float]:
    return jumps if isinstance(jumps, Sequence) else (jumps,)
