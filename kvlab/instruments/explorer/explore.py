"""Run small concurrent programs on a real server under every order of their commands.

:func:`explore` takes any functions that use a redis-py client and runs them again and again: each
time the commands come in another order, until no order is left. Faults can be put between them,
each at every point where it could happen. The shortest run that breaks the invariant is shown.

A step is one write to the server: a command, a pipeline, a MULTI with all that is in it. What a
client does without the server belongs to the step before it; where that touches what others touch
too (a row, a global), :func:`step` makes it a step of its own. Up to its first command a client
has run when the run begins.

Time stands still for the clients, except that a sleep, or a blocking command that times out, puts
their clocks forward and every TTL with them.

Not promised: orders inside a pipeline that is no MULTI, or between replicas; asyncio tasks of one
client against each other, nor a blocking command that they would end; pub/sub; TTLs of hash fields.
A client that sleeps again sleeps on until another has moved, or nobody else can. The server's own
clock is real: what a script works out from TIME, or the server from idle times (XAUTOCLAIM),
notices neither a sleep nor a TTL that was made to end. Keep TTLs above a second.

A client's clock is its own where it asks ``time.time()``; not through ``datetime.now()`` or ``from
time import time``. ``random`` is seeded alike for each run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kvlab.errors import InvalidArgument
from kvlab.instruments.explorer.findings import found_alone
from kvlab.instruments.explorer.playing import following, played, rehearsed, spelt
from kvlab.instruments.explorer.processes import can_fork, found_together
from kvlab.instruments.explorer.run.clients import KvRedis
from kvlab.instruments.explorer.run.events import Invariant, World
from kvlab.instruments.explorer.run.lanes import step
from kvlab.instruments.explorer.run.setting import theatre
from kvlab.instruments.explorer.run.settings import (
    ALL_FAULTS,
    NO_FAULTS,
    Faults,
    Program,
    Settings,
    named,
)
from kvlab.instruments.explorer.timeline.timeline import Timeline

__all__ = ["Story", "Violated", "World", "explore", "replay", "step"]


class Violated(AssertionError):
    """A story was taken for true that does not hold; the message is its timeline."""


@dataclass(frozen=True)
class Story:
    """What an exploration found. As the last value of a notebook cell it draws ``shortest``.

    * ``holds``: no run that was made broke the invariant.
    * ``schedules``: runs made; ``violations``: how many broke it, ``broken``: by how.
    * ``complete``: no order was left; else there are ``at_least`` so many.
    * ``shortest``: the run with the fewest faults, then steps, then changes of client that broke
      it; of a replay, the run. None when it holds.
    * ``seconds``: how long it took.

    ``assert explore(…)`` passes when it holds and is complete, and says why when it does not.
    """

    schedules: int
    at_least: int
    complete: bool
    seconds: float
    broken: Counter[str] = field(default_factory=Counter)
    shortest: Timeline | None = None

    @property
    def violations(self) -> int:
        return sum(self.broken.values())

    @property
    def holds(self) -> bool:
        return not self.broken

    @property
    def schedule(self) -> str | None:
        """The choices of ``shortest``, for :func:`replay`."""
        return None if self.shortest is None else self.shortest.schedule

    @property
    def summary(self) -> str:
        """One line."""
        whole = "" if self.complete else f" (of at least {self.at_least:,})"
        if self.schedules == 1 and self.complete:
            return f"{'holds' if self.holds else 'broken'} in the only schedule"
        runs = f"{self.schedules:,} schedule{'s' * (self.schedules != 1)}{whole}"
        if self.holds:
            return f"holds in all of {runs}" if self.complete else f"held in {runs}"
        return f"broken in {self.violations:,} of {runs}"

    def __str__(self) -> str:
        shown = "" if self.shortest is None else f"\n\n{self.shortest}"
        return self.summary + shown

    __repr__ = __str__

    def _repr_png_(self) -> Any:
        return None if self.shortest is None else self.shortest.figure(self.summary).picture()

    def __bool__(self) -> bool:
        __tracebackhide__ = True  # pytest shows the assert, not this
        if not self.holds:
            raise Violated(str(self))
        if not self.complete:
            raise Violated(
                f"{self.summary}, and not complete: allow more max_schedules or max_seconds, or "
                "say reduce=True; story.holds asks for no more than this"
            )
        return True


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
    clock_jumps: float | Sequence[float] = (),
    max_faults: int = 1,
    reduce: bool = False,
    max_schedules: int = 100_000,
    max_seconds: float = 300.0,
    max_steps: int = 1000,
    engine: str = "valkey",
    url: str | None = None,
    client_options: Mapping[str, Any] | None = None,
    processes: int = 1,
    progress: bool = True,
) -> Story:
    """Run the clients under every order of their steps, and of the faults that are allowed.

    ``clients``: functions of one argument, a redis-py client (for an ``async def``, one of
    ``redis.asyncio``) whose ``run`` also takes ops and flows; a mapping gives them names. It is
    made as ``redis.Redis(**client_options)`` is, so it sends again what failed, ten times, unless
    its ``retry`` says otherwise. ``setup(client)`` runs before each run, on an empty database.

    ``invariant(world)`` is asked at the end of each run, with a :class:`World`: it answers whether
    all is well, or raises AssertionError. A client that raises breaks the story too, unless it is
    a redis-py or kvlab error in a run with a fault or a time-out; so does a deadlock, and
    ``max_steps``.

    ``faults``: the kinds of fault that are allowed, such as ``ALL_FAULTS`` or
    ``Faults(crashes=True)``; at most ``max_faults`` of them happen in one run. The arguments
    ``crashes`` to ``clock_jumps`` allow one kind each, as the fields of :class:`Faults` do, in
    addition to ``faults``; ``clock_jumps`` may be one number.

    ``reduce``: of runs that differ only in the order of neighbours that touch different keys, or
    that change nothing, make one. Right only if clients share nothing but the server, or say so by
    :func:`step`, and the invariant asks for results and data, not for the order in the trace.

    ``processes``: so many search at once, each with a server and a core of its own; the story is
    the same. They are forked from this one: what functions leave in variables stays in its process,
    while a file or a database that they use would be shared. Not with ``reduce`` or ``url``, nor
    where there is no fork (Windows).

    It runs on a private server of ``engine``, or on ``url``: a database that must be empty, and
    that is emptied before each run and at the end. While it runs, this thread and the private
    server keep to one core, since only one of them is ever at work.

    Raises InvalidArgument for bad arguments, ``Hung`` for a client that waits for something else
    than the server, ``Nondeterministic`` for one that does not repeat itself (both KvlabError),
    ServerUnavailable when the server ends meanwhile, KvlabError when another process is killed.
    """
    allowed = Faults(
        crashes=crashes,
        lost_replies=lost_replies,
        lost_requests=lost_requests,
        expiries=expiries,
        script_flushes=script_flushes,
        clock_jumps=_several(clock_jumps),
    )
    settings = Settings(
        clients=named(clients),
        setup=setup,
        invariant=invariant,
        faults=faults | allowed if isinstance(faults, Faults) else faults,
        max_faults=max_faults,
        reduce=reduce,
        max_schedules=max_schedules,
        max_seconds=max_seconds,
        max_steps=max_steps,
        engine=engine,
        url=url,
        client_options=client_options or {},
        processes=processes,
        progress=progress,
    )
    if processes > 1:
        _must_be_splittable(settings)
    return _explored(settings)


def _explored(settings: Settings) -> Story:
    processes = settings.processes
    found = found_together(settings) if processes > 1 else None
    with theatre(settings) as stage:
        if found is None:
            found = found_alone(stage)
        complete = not found.unexplored
        for number, name in enumerate(settings.names):
            if number not in found.moved and complete and not found.broken:
                raise InvalidArgument(
                    f"{name} sent nothing in any run: it must use the client that it is given, not "
                    "one of its own"
                )
        shown = None
        if found.best is not None:
            path = found.best[1]
            while processes > 1 and not rehearsed(stage, [str(choice) for choice in path]):
                pass  # until this server knows the scripts too
            shown = played(stage, following(path))
    at_least = found.schedules + found.unexplored
    return Story(found.schedules, at_least, complete, found.seconds, found.broken, shown)


def replay(
    schedule: str,
    clients: Sequence[Program] | Mapping[str, Program],
    *,
    invariant: Invariant | None = None,
    setup: Callable[[KvRedis], object] | None = None,
    clock_jumps: float | Sequence[float] = (),
    max_steps: int = 1000,
    engine: str = "valkey",
    url: str | None = None,
    client_options: Mapping[str, Any] | None = None,
) -> Story:
    """Run one schedule, as a :class:`Story` prints it: ``replay("0 0 1 x1 0", clients=…)``.

    ``0`` client 0 goes on; ``x0`` it crashes, ``r0`` and ``q0`` the reply or the request of its
    next command is lost, ``t0`` its blocking command times out, ``j0`` its clock has jumped;
    ``e:key`` the key's TTL ends; ``f`` the server forgets its scripts.

    What the schedule leaves open goes on in the order of the clients. The other arguments are
    those of :func:`explore` (``clock_jumps`` too); every fault that the schedule names is allowed.
    The story shows the run whether the invariant holds or not. Raises InvalidArgument for a choice
    that is not there.
    """
    if not isinstance(schedule, str):
        raise InvalidArgument(f'schedule must be a text like "0 0 1 x1 0", not {schedule!r:.80}')
    tokens = schedule.split()
    settings = Settings(
        clients=named(clients),
        setup=setup,
        invariant=invariant,
        faults=ALL_FAULTS | Faults(clock_jumps=_several(clock_jumps)),
        max_faults=len(tokens),
        max_steps=max_steps,
        engine=engine,
        url=url,
        client_options=client_options or {},
    )
    began = time.perf_counter()
    with theatre(settings) as stage:
        while not rehearsed(stage, tokens):
            pass
        shown = played(stage, spelt(tokens[::-1]))
    broken = Counter() if shown.problem is None else Counter([shown.problem])
    return Story(1, 1, True, time.perf_counter() - began, broken, shown)


def _must_be_splittable(settings: Settings) -> None:
    if settings.reduce:
        why = "with reduce=True: what a part may leave out is known only after those before it"
    elif settings.url is not None:
        why = "with url: it is one database, and each process needs one of its own"
    elif not can_fork():
        why = "here: functions get into another process by fork alone, and this system has none"
    else:
        return
    raise InvalidArgument(f"processes must be 1, not {settings.processes}, {why}")


def _several(jumps: float | Sequence[float]) -> Sequence[float]:
    return jumps if isinstance(jumps, Sequence) else (jumps,)
