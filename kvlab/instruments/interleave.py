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
client against each other; pub/sub. The server's own clock is real: what a script works out from
TIME notices neither a sleep nor a TTL that was made to end. Keep TTLs above a second.
"""

from __future__ import annotations

import ast
import functools
import itertools
import linecache
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import redis

from kvlab import engines
from kvlab.connections import resolve
from kvlab.errors import InvalidArgument, KvlabError, ServerUnavailable
from kvlab.instruments._check import real, whole
from kvlab.instruments._progress import progress_bar
from kvlab.instruments.cores import one_core
from kvlab.instruments.footprints import Footprints
from kvlab.instruments.gate import ClientCrashed
from kvlab.instruments.lanes import own_time, step
from kvlab.instruments.scene import Actor, Choice, Done, Faults, Run, Stage, World
from kvlab.instruments.script_cache import ScriptCache
from kvlab.instruments.search import Again, Search
from kvlab.instruments.stepping import KvRedis, plain
from kvlab.instruments.timeline import Timeline, state_of

__all__ = ["Story", "Violated", "World", "explore", "replay", "step"]

MOST_TOKENS = 40
"""Of a longer schedule the end is left out, where it does what :func:`replay` does anyway."""

Program = Callable[[Any], Any]
Invariant = Callable[[World], object]

_MEANT = (redis.RedisError, KvlabError, OSError)
"""What a client may raise when one of its commands met a fault, or the script cache."""


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
        runs = f"{self.schedules:,} schedule{'s' * (self.schedules != 1)}{whole}"
        if self.holds:
            return f"holds in all of {runs}" if self.complete else f"held in {runs}"
        return f"broken in {self.violations:,} of {runs}"

    def __str__(self) -> str:
        shown = "" if self.shortest is None else f"\n\n{self.shortest}"
        return self.summary + shown

    __repr__ = __str__

    def _repr_svg_(self) -> str | None:
        return None if self.shortest is None else self.shortest.svg(self.summary)

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
    crashes: bool = False,
    lost_replies: bool = False,
    lost_requests: bool = False,
    expiries: bool = False,
    script_flushes: bool = False,
    clock_jumps: float | Sequence[float] = (),
    faults: int = 1,
    reduce: bool = False,
    max_schedules: int = 100_000,
    max_seconds: float = 300.0,
    max_steps: int = 1000,
    engine: str = "valkey",
    url: str | None = None,
    client_options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Story:
    """Run the clients under every order of their steps, and of the faults that are allowed.

    ``clients``: functions of one argument, a redis-py client (for an ``async def``, one of
    ``redis.asyncio``) whose ``run`` also takes ops and flows; a mapping gives them names. It is
    made as ``redis.Redis(**client_options)`` is, so it sends again what failed, ten times, unless
    its ``retry`` says otherwise. ``setup(client)`` runs before each run, on an empty database.

    ``invariant(world)`` is asked at the end of each run, with a :class:`World`: it answers whether
    all is well, or raises AssertionError. A client that raises breaks the story too, unless it is
    a redis-py or kvlab error in a run with a fault; so does a deadlock, and ``max_steps``.

    Faults, ``faults`` of them in one run at most:

    * ``crashes``: a client stops for good after any of its steps.
    * ``lost_replies``, ``lost_requests``: the command ran and its client gets a ConnectionError;
      or it did not run and the client gets the same.
    * ``expiries``: the TTL of any key ends at any time; and blocking commands time out when they
      need not (without it: when nobody can go on otherwise).
    * ``script_flushes``: the server forgets its scripts.
    * ``clock_jumps``: when a client looks at its wall clock (``time.time``), that has jumped by so
      many seconds.

    ``reduce``: of runs that differ only in the order of neighbours that touch different keys, or
    that change nothing, make one. Right only if clients share nothing but the server, or say so by
    :func:`step`, and the invariant asks for results and data, not for the order in the trace.

    It runs on a private server of ``engine``, or on ``url``: a database that must be empty, and
    that is emptied before each run and at the end. While it runs, this thread and the private
    server keep to one core, since only one of them is ever at work.

    Raises InvalidArgument for bad arguments, ``lanes.Hung`` for a client that waits for something
    else than the server, ``search.Nondeterministic`` for one that does not repeat itself,
    ServerUnavailable when the server ends meanwhile.
    """
    wanted = Faults(
        crashes,
        lost_replies,
        lost_requests,
        expiries,
        script_flushes,
        _jumps(clock_jumps),
        whole("faults", faults, 0),
    )
    most = whole("max_schedules", max_schedules, 1)
    seconds = real("max_seconds", max_seconds, 0, above=True)
    steps = whole("max_steps", max_steps, 1)
    with _theatre(clients, setup, wanted, steps, engine, url, client_options, reduce=reduce) as (
        stage,
        names,
    ):
        search: Search[Choice, Done, Run] = Search(lambda: Run(stage), reduce=reduce)
        best: tuple[Any, tuple[Choice, ...]] | None = None
        broken: Counter[str] = Counter()
        schedules, began = 0, time.perf_counter()
        complete = True
        with progress_bar(None, "schedules", show=progress) as bar:
            for path, run in search:
                schedules += 1
                bar.update()
                if (why := _broken(run, invariant)) is not None:
                    broken[why] += 1
                    rank = _rank(path)
                    if best is None or rank < best[0]:
                        best = rank, path
                if schedules >= most or time.perf_counter() - began >= seconds:
                    complete = not search.unexplored
                    break
        took = time.perf_counter() - began
        shown = None if best is None else _played(stage, names, _following(best[1]), invariant)
    at_least = schedules + search.unexplored
    return Story(schedules, at_least, complete, took, broken, shown)


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

    What the schedule leaves open goes on in the order of the clients. The other arguments are
    those of :func:`explore`; every fault that the schedule names is allowed. The story shows the
    run whether the invariant holds or not. Raises InvalidArgument for a choice that is not there.
    """
    tokens = schedule.split()
    allowed = Faults(True, True, True, True, True, _jumps(clock_jumps), len(tokens))
    began = time.perf_counter()
    with _theatre(
        clients, setup, allowed, whole("max_steps", max_steps, 1), engine, url, client_options
    ) as (stage, names):
        while not _rehearsed(stage, tokens):
            pass
        shown = _played(stage, names, _spelt(tokens[::-1]), invariant)
    broken = Counter() if shown.problem is None else Counter([shown.problem])
    return Story(1, 1, True, time.perf_counter() - began, broken, shown)


def _jumps(given: float | Sequence[float]) -> tuple[float, ...]:
    several = given if isinstance(given, Sequence) else (given,)
    return tuple(real("clock_jumps", jump, -1e9, 1e9) for jump in several)


@contextmanager
def _theatre(
    clients: Sequence[Program] | Mapping[str, Program],
    setup: Callable[[KvRedis], object] | None,
    faults: Faults,
    max_steps: int,
    engine: str,
    url: str | None,
    client_options: Mapping[str, Any] | None,
    *,
    reduce: bool = False,
) -> Iterator[tuple[Stage, tuple[str, ...]]]:
    """The server, the explorer's client, the actors; all gone at the end, however it comes."""
    if not isinstance(clients, Mapping):
        clients = {f"client {number}": program for number, program in enumerate(clients)}
    names, programs = tuple(clients), tuple(clients.values())
    if not programs or not all(map(callable, programs)):
        raise InvalidArgument(f"clients must be one or more functions, not {programs!r:.80}")
    options = dict(client_options or {})
    with _server_alive(), ExitStack() as ends:
        ends.enter_context(own_time())
        if url is None:
            server = ends.enter_context(engines.start(engine, unix_socket=True))
            at, pid = server.url, server.pid
        else:
            at, pid = resolve(url), None
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
        yield Stage(actors, kv, inside, setup, faults, footprints, max_steps, scripts), names


@contextmanager
def _server_alive() -> Iterator[None]:
    try:
        yield
    except redis.ConnectionError as problem:
        raise ServerUnavailable(
            f"the server of the exploration does not answer, or ended meanwhile: {problem}"
        ) from problem


def _rank(path: Sequence[Choice]) -> tuple[int, int, int]:
    turns = sum(one.client != other.client for one, other in itertools.pairwise(path))
    return sum(choice.is_fault for choice in path), len(path), turns


def _broken(run: Run, invariant: Invariant | None) -> str | None:
    """What is wrong with a run that has ended, in words."""
    if run.problem is not None:
        return run.problem
    faulted = any(event.kind != "go" for event in run.trace)
    for number, result in enumerate(run.results):
        if isinstance(result, ClientCrashed) or not isinstance(result, BaseException):
            continue
        if not faulted or not _is_meant(result):
            return f"client {number} raised {type(result).__name__}: {result}"
    if invariant is None:
        return None
    try:
        answer = invariant(run.world)
        none = " (it answered None)" if answer is None else ""  # asserts, and no return True?
        return None if answer else f"not so: {_words(invariant)}{none}"
    except AssertionError as problem:
        # pytest adds lines with the values, which would make every run a case of its own
        return str(problem).partition("\n")[0] or f"not so: {_words(invariant)}"


def _is_meant(problem: BaseException) -> bool:
    if isinstance(problem, BaseExceptionGroup):  # of a TaskGroup
        return all(map(_is_meant, problem.exceptions))
    return isinstance(problem, _MEANT)


def _words(invariant: Invariant) -> str:
    """What it demands: its docstring, or its name, or a lambda's own text."""
    while isinstance(invariant, functools.partial):
        invariant = invariant.func
    said = (getattr(invariant, "__doc__", None) or "").strip().split("\n")[0]
    name: str = getattr(invariant, "__name__", type(invariant).__name__)
    return said or (_text(invariant) if name == "<lambda>" else name.replace("_", " "))


@functools.cache
def _text(function: Any) -> str:
    """A lambda's own text: of those in its file, the one whose body stands where its code does."""
    code = function.__code__
    places = [place for place in code.co_positions() if None not in place and place[3]]
    begin = min(((line, column) for line, _, column, _ in places), default=None)
    end = max(((line, column) for _, line, _, column in places), default=None)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    with suppress(SyntaxError):
        for node in ast.walk(ast.parse("".join(lines))):
            if isinstance(node, ast.Lambda):
                body = node.body
                if begin == (body.lineno, body.col_offset) and end == (
                    body.end_lineno,
                    body.end_col_offset,
                ):
                    return ast.unparse(body)
    return "the invariant"


Chooser = Callable[[Sequence[Choice]], Choice]


def _following(path: Sequence[Choice]) -> Chooser:
    left = list(reversed(path))
    return lambda options: left.pop() if left else options[0]


def _spelt(left: list[str]) -> Chooser:
    """The choices that tokens name, the last one first; then the first of the options each time."""
    total = len(left)

    def choose(options: Sequence[Choice]) -> Choice:
        if left:
            for option in options:
                if str(option) == left[-1]:
                    left.pop()
                    return option
        if not left or options[0].kind == "look":
            return options[0]
        possible = " ".join(str(option) for option in options)
        at = total - len(left) + 1
        raise InvalidArgument(f"step {at} of the schedule is {left[-1]!r}; possible: {possible}")

    return choose


def _perform(run: Run, choose: Chooser, after: Callable[[], None] = lambda: None) -> None:
    while options := run.options():
        run.take(choose(options))
        after()


def _rehearsed(stage: Stage, tokens: Sequence[str]) -> bool:
    """One run of a schedule; whether it began as those after it will.

    Raises InvalidArgument for a schedule that is not one of this program.
    """
    run, left = Run(stage), list(reversed(tokens))
    refused: InvalidArgument | None = None
    try:
        _perform(run, _spelt(left))
    except InvalidArgument as problem:
        refused = problem
    try:
        run.end()
    except Again:
        return False
    if refused is not None:
        raise refused
    if left:
        raise InvalidArgument(f"the run was over before {' '.join(reversed(left))!r}")
    return True


def _played(
    stage: Stage, names: tuple[str, ...], choose: Chooser, invariant: Invariant | None
) -> Timeline:
    """The run again, with the state of the keys after each step."""
    run = Run(stage)
    states = [state_of(stage.server)]
    chosen: list[str] = []
    looks: list[Choice] = []  # since the last step
    needed = 0  # what follows is what would be chosen anyway

    def choosing(options: Sequence[Choice]) -> Choice:
        nonlocal needed
        choice = choose(options)
        if choice.kind == "look":
            looks.append(choice)
            return choice
        if choice.kind == "jump":
            chosen.extend(str(one) for one in looks if one.client == choice.client)
        looks.clear()
        chosen.append(str(choice))
        needed = len(chosen) if choice != options[0] else needed
        return choice

    def look() -> None:
        if len(states) <= len(run.trace):
            states.append(state_of(stage.server))

    _perform(run, choosing, look)
    problem = _broken(run, invariant)
    schedule = " ".join(chosen if len(chosen) <= MOST_TOKENS else chosen[:needed])
    timeline = Timeline(
        names, schedule, tuple(run.trace), tuple(states), tuple(run.results), problem
    )
    with suppress(Again):
        run.end()
    return timeline
