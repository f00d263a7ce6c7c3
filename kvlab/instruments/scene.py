"""One run of several clients against one server: what may happen next, and what happened.

Used by :mod:`kvlab.instruments.interleave`. A choice is written as a token:

    0         client 0 goes on: its next command, or what it waited for
    x0        client 0 stops for good, before its next command
    r0 q0     client 0 sends its next command; the reply is lost, or the request
    t0        the time of client 0's blocking command is up
    j0        client 0 looks at its clock, which has jumped (j0:2 by the third of the jumps given)
    l0        client 0 looks at its clock; written only where it looks again at once and then j0
    e:key     the key's TTL ends
    f         the server forgets its scripts (SCRIPT FLUSH)
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import redis

from kvlab.errors import KvlabError
from kvlab.instruments.footprints import EVERYTHING, SCRIPT_CACHE, Footprint, Footprints
from kvlab.instruments.lanes import (
    Asleep,
    Blocked,
    Clock,
    Command,
    Ended,
    Lane,
    Local,
    ReadsClock,
    Sending,
)
from kvlab.instruments.script_cache import ScriptCache
from kvlab.instruments.search import Again
from kvlab.instruments.stepping import KvRedis, Settle, loop_of, stepped, stepped_async, untimed

Kind = Literal[
    "go", "crash", "lose reply", "lose request", "time out", "look", "jump", "expire", "flush"
]
FAULTS = frozenset({"crash", "lose reply", "lose request", "jump", "expire", "flush"})
_MARKS = {
    "go": "",
    "crash": "x",
    "lose reply": "r",
    "lose request": "q",
    "time out": "t",
    "look": "l",
}

_VOLATILE = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('PTTL', key) >= 0 then found[#found + 1] = key end
end
table.sort(found)
return found"""

# Time passes by ARGV[1] milliseconds, as far as TTLs are concerned.
_AGE = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then redis.call('PEXPIRE', key, string.format('%.0f', left - ARGV[1])) end
end"""


class Unfinished:
    """The result of a client that had not come to its end when the run did."""

    def __repr__(self) -> str:
        return "unfinished"


UNFINISHED = Unfinished()


@dataclass(frozen=True, slots=True)
class Choice:
    """One thing that may happen next. ``client`` is None for what happens to the server."""

    kind: Kind
    client: int | None = None
    key: bytes = b""
    jump: int = 0

    def __str__(self) -> str:
        if self.kind == "expire":
            return "e:" + quote(self.key, safe=":{}/@,;+*!'()[]|<>=&?$")
        if self.kind == "flush":
            return "f"
        if self.kind == "jump":
            return f"j{self.client}" + (f":{self.jump}" if self.jump else "")
        return f"{_MARKS[self.kind]}{self.client}"

    @property
    def is_fault(self) -> bool:
        return self.kind in FAULTS


@dataclass(frozen=True, slots=True)
class Event:
    """What happened in one step.

    ``commands`` were sent and ``replies`` came back, an exception for an error reply; ``label``
    is that of a :func:`~kvlab.instruments.lanes.step`. ``result`` is the client's, when this was
    its last step: what it returned, or the exception it raised.
    """

    kind: Kind
    client: int | None
    commands: tuple[Command, ...] = ()
    replies: tuple[Any, ...] = ()
    label: str = ""
    key: bytes = b""
    ended: bool = False
    result: Any = None


@dataclass(frozen=True, slots=True)
class World:
    """What an invariant is given, at the end of a run.

    * ``results``: of each client, in order, what it returned, or the exception that it raised;
      ``ClientCrashed`` for one that crashed. ``UNFINISHED`` after a deadlock.
    * ``kv``: a redis-py client, whose ``run`` takes ops.
    * ``trace``: every :class:`Event`, in order.
    """

    results: list[Any]
    kv: KvRedis
    trace: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults may happen, and how many of them in one run."""

    crashes: bool = False
    lost_replies: bool = False
    lost_requests: bool = False
    expiries: bool = False
    script_flushes: bool = False
    clock_jumps: tuple[float, ...] = ()
    at_most: int = 1

    @property
    def between_steps(self) -> bool:
        """Whether any can happen that is not a clock's."""
        return (
            self.crashes
            or self.lost_replies
            or self.lost_requests
            or self.expiries
            or self.script_flushes
        )


class Actor:
    """One client program, its lane, and the connections it keeps from run to run."""

    def __init__(
        self,
        number: int,
        program: Callable[[Any], Any],
        url: str,
        settle: Settle,
        options: Mapping[str, Any],
    ) -> None:
        self.lane = Lane(number)
        self._program, self._url, self._settle, self._options = program, url, settle, options
        self._runner: asyncio.Runner | None = None
        self._is_async = inspect.iscoroutinefunction(program)
        self._client: Any = None

    def begin(self, clock: Clock, *, jumps: bool) -> None:
        self.lane.begin(self._perform, clock, jumps=jumps)

    def _perform(self) -> Any:
        if self._is_async:
            if self._runner is None:
                self._runner = asyncio.Runner(loop_factory=lambda: loop_of(self.lane, self._settle))
            return self._runner.run(self._perform_async())
        if self._client is None:
            self._client = stepped(self._url, self.lane, self._settle, **self._options)
        value = self._program(self._client)
        if inspect.iscoroutine(value):
            value.close()
            raise KvlabError(
                f"client {self.lane.number} is async: give the async function itself, or an async "
                "def, not a lambda"
            )
        return value

    async def _perform_async(self) -> Any:
        if self._client is None:
            self._client = stepped_async(self._url, self.lane, self._settle, **self._options)
        try:
            return await self._program(self._client)
        finally:  # as asyncio.run() does
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    def drop(self) -> None:
        """Close its connections, as the end of its process would."""
        self.lane.misuse = None
        self.lane.begin(self._close, Clock(), jumps=False)
        self.lane.kill()

    def _close(self) -> None:
        client, self._client = self._client, None
        if self._runner is not None:
            runner, self._runner = self._runner, None
            try:
                if client is not None:
                    runner.run(client.kv.close())
                    runner.run(client.aclose())
                    runner.run(client.connection_pool.disconnect())
            finally:
                runner.close()
        elif client is not None:
            client.kv.close()
            client.connection_pool.disconnect()

    def end(self) -> None:
        """Whatever it is doing, stop; its thread is gone afterwards."""
        self.lane.kill()
        if not self.lane.hung:
            self.drop()
        self.lane.end()


@dataclass(frozen=True, slots=True)
class Stage:
    """What all runs share. ``kv`` is for setup and invariant, ``server`` for the explorer."""

    actors: Sequence[Actor]
    kv: KvRedis
    server: redis.Redis
    setup: Callable[[KvRedis], object] | None
    faults: Faults
    footprints: Footprints | None
    """None when nobody asks what commutes."""
    max_steps: int
    scripts: ScriptCache


class Run:
    """An :class:`~kvlab.instruments.search.Execution`: one run, from an empty server on."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._clock = Clock()
        self._left = stage.faults.at_most
        self._between = stage.faults.between_steps
        self._steps_of = [0] * len(stage.actors)
        self._woke_at: list[int | None] = [None] * len(stage.actors)
        self._watched: list[Footprint] = [Footprint()] * len(stage.actors)
        self._marks: dict[Choice, Footprint] = {}
        self._cold = False
        self.results: list[Any] = [UNFINISHED] * len(stage.actors)
        self.trace: list[Event] = []
        self.problem: str | None = None
        stage.server.flushdb()
        stage.scripts.begin()
        if stage.setup is not None:
            stage.setup(stage.kv)
        for actor in stage.actors:
            actor.begin(self._clock, jumps=bool(stage.faults.clock_jumps))
            self._note_end(actor)

    @property
    def world(self) -> World:
        return World(self.results, self._stage.kv, tuple(self.trace))

    # --- what may happen ---

    def options(self) -> Sequence[Choice]:
        """See :class:`~kvlab.instruments.search.Execution`."""
        stops = [actor.lane.stop for actor in self._stage.actors]
        if all(isinstance(stop, Ended) for stop in stops) or self.problem:
            return ()
        if len(self.trace) >= self._stage.max_steps:
            self.problem = f"no end after {len(self.trace)} steps"
            return ()
        for number, stop in enumerate(stops):
            if isinstance(stop, ReadsClock):
                return self._looks(number)
        found = [choice for n, stop in enumerate(stops) for choice in self._ways(n, stop)]
        if not found:
            found = [choice for n, stop in enumerate(stops) for choice in self._later(n, stop)]
        if not found:
            self.problem = "deadlock: " + " and ".join(
                f"client {number} waits at {stop.commands[0][0].decode()} for ever"
                for number, stop in enumerate(stops)
                if isinstance(stop, Blocked)
            )
            return ()
        faults = self._faults(stops) if self._left and self._between else []
        return (*found, *faults)

    def _looks(self, number: int) -> Sequence[Choice]:
        jumps = len(self._stage.faults.clock_jumps) if self._left else 0
        return (
            Choice("look", number),
            *(Choice("jump", number, jump=jump) for jump in range(jumps)),
        )

    def _ways(self, number: int, stop: Any) -> list[Choice]:
        """How a client may go on while others can as well."""
        go = _go(number)
        match stop:
            case Sending(commands):
                self._mark(go, commands)
                return [go]
            case Local(_, touches, reads):
                self._marks[go] = Footprint(reads=touches) if reads else Footprint(writes=touches)
                return [go]
            case Blocked(commands):
                if stop.answered():
                    self._marks[go] = Footprint()
                    return [go]
                if not stop.seconds or not self._stage.faults.expiries:
                    return []
                return [self._timeout(number)]
            case Asleep() if self._others_moved_since(number, self._woke_at[number]):
                self._marks[go] = EVERYTHING
                return [go]
        return []

    def _others_moved_since(self, number: int, then: int | None) -> bool:
        """Or else one who asks, sleeps and asks again would do so for ever."""
        return then is None or any(event.client != number for event in self.trace[then:])

    def _later(self, number: int, stop: Any) -> list[Choice]:
        """How it may go on when nobody can otherwise: time passes."""
        if isinstance(stop, Asleep):
            self._marks[_go(number)] = EVERYTHING
            return [_go(number)]
        if isinstance(stop, Blocked) and stop.seconds:
            return [self._timeout(number)]
        return []

    def _timeout(self, number: int) -> Choice:
        choice = Choice("time out", number)
        self._marks[choice] = EVERYTHING  # time passes for everybody
        return choice

    def _mark(self, choice: Choice, commands: Sequence[Command]) -> None:
        if self._stage.footprints is not None:
            assert choice.client is not None
            mark = self._stage.footprints.of(commands) | self._watched[choice.client]
            self._marks[choice] = mark

    def _faults(self, stops: Sequence[Any]) -> list[Choice]:
        allowed, found = self._stage.faults, []
        for number, stop in enumerate(stops):
            if isinstance(stop, Ended):
                continue
            if allowed.crashes and self._steps_of[number]:
                choice = Choice("crash", number)
                self._marks[choice] = Footprint()
                if isinstance(stop, Blocked):  # or it will be served when it is gone already
                    self._mark(choice, stop.commands)
                found.append(choice)
            if isinstance(stop, Sending) and not any(map(untimed, stop.commands)):
                mark = self._marks.get(Choice("go", number), EVERYTHING)
                for kind, wanted in (
                    ("lose reply", allowed.lost_replies),
                    ("lose request", allowed.lost_requests),
                ):
                    if wanted:
                        choice = Choice(kind, number)  # type: ignore[arg-type]
                        self._marks[choice] = mark
                        found.append(choice)
        if allowed.expiries:
            for key in self._stage.server.eval(_VOLATILE, 0):
                choice = Choice("expire", key=key)
                self._marks[choice] = Footprint(writes=frozenset({key}))
                found.append(choice)
        if allowed.script_flushes:
            self._marks[Choice("flush")] = Footprint(writes=frozenset({SCRIPT_CACHE}))
            found.append(Choice("flush"))
        return found

    def commute(self, one: Choice, other: Choice) -> bool:
        """See :class:`~kvlab.instruments.search.Execution`."""
        if one.is_fault and other.is_fault:  # the first may have been the last allowed
            return False
        if one.client is not None and one.client == other.client:
            return False
        mark, another = self._marks.get(one, EVERYTHING), self._marks.get(other, EVERYTHING)
        return not mark.meets(another)

    # --- what happens ---

    def take(self, choice: Choice) -> None:
        """See :class:`~kvlab.instruments.search.Execution`."""
        self._left -= choice.is_fault
        if choice.kind == "expire":
            self._stage.server.unlink(choice.key)
            self.trace.append(Event("expire", None, key=choice.key))
        elif choice.kind == "flush":
            self._stage.scripts.flush()
            self.trace.append(Event("flush", None))
        else:
            assert choice.client is not None
            self._move(choice, self._stage.actors[choice.client])

    def _move(self, choice: Choice, actor: Actor) -> None:
        lane, number = actor.lane, actor.lane.number
        stop = lane.stop
        commands = stop.commands if isinstance(stop, Sending | Blocked) else ()
        label = stop.label if isinstance(stop, Local) else ""
        if isinstance(stop, Asleep):
            label = f"slept {stop.seconds:.3g} s"
            self._pass(stop.until - self._clock.monotonic)
        if choice.kind == "jump":
            lane.jump(self._stage.faults.clock_jumps[choice.jump])
            label = f"clock jumps {self._stage.faults.clock_jumps[choice.jump]:+g} s"
        if choice.kind == "time out":
            assert isinstance(stop, Blocked)
            self._pass(stop.until - self._clock.monotonic)
            self._stage.server.execute_command("CLIENT", "UNBLOCK", stop.connection, "TIMEOUT")
        lane.resume(choice.kind if choice.kind in _ORDERS else "go")  # type: ignore[arg-type]
        self._steps_of[number] += choice.kind not in ("look", "jump")
        replies = tuple(lane.replies)
        ended = isinstance(lane.stop, Ended)
        self._note_end(actor)
        if choice.kind != "look":
            self._note_watch(number, commands)
            self.trace.append(
                Event(
                    choice.kind,
                    number,
                    commands,
                    replies,
                    label,
                    ended=ended,
                    result=self.results[number],
                )
            )
        if isinstance(stop, Asleep):
            self._woke_at[number] = len(self.trace)
        self._cold |= self._stage.scripts.note(commands, replies)

    def _pass(self, seconds: float) -> None:
        if seconds > 0:
            self._clock.pass_by(seconds)
            self._stage.server.eval(_AGE, 0, seconds * 1000)

    def _note_end(self, actor: Actor) -> None:
        stop = actor.lane.stop
        if isinstance(stop, Ended):
            failed = stop.error is not None
            self.results[actor.lane.number] = stop.error if failed else stop.value
            if failed:
                actor.drop()

    def _note_watch(self, number: int, commands: Sequence[Command]) -> None:
        for command in commands:
            name = command[0].upper()
            if name == b"WATCH":
                self._watched[number] |= Footprint(reads=frozenset(command[1:]))
            elif name in (b"EXEC", b"UNWATCH", b"DISCARD"):
                self._watched[number] = Footprint()

    def end(self) -> None:
        """See :class:`~kvlab.instruments.search.Execution`.

        Runs are alike only if all find the same scripts loaded: one that had to load some is
        finished and then made again.
        """
        while self._cold and (options := self.options()):
            self.take(options[0])
        for actor in self._stage.actors:
            if not isinstance(actor.lane.stop, Ended):
                actor.lane.kill()
                actor.drop()
        if self._cold:
            raise Again


_go = functools.cache(functools.partial(Choice, "go"))
_ORDERS = {"go", "crash", "lose reply", "lose request", "time out"}
