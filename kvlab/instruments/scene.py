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
class Done:
    """A choice that was taken, and what it touched."""

    choice: Choice
    touched: Footprint


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
        self._faults = stage.faults
        self._steps_of = [0] * len(stage.actors)
        self._woke_at: list[int | None] = [None] * len(stage.actors)
        self._watched: list[Footprint] = [Footprint()] * len(stage.actors)
        self._changes: int | None = None
        self._cold = False
        self._taken = 0
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
        if stage.footprints is not None:
            self._changes = stage.footprints.changes()

    @property
    def world(self) -> World:
        return World(self.results, self._stage.kv, tuple(self.trace))

    # --- what may happen ---

    def options(self) -> Sequence[Choice]:
        """See :class:`~kvlab.instruments.search.Execution`."""
        stops = [actor.lane.stop for actor in self._stage.actors]
        if all(isinstance(stop, Ended) for stop in stops) or self.problem:
            return ()
        if self._taken >= self._stage.max_steps:
            self.problem = f"no end after {self._taken} steps"
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
        faults = self._mishaps(stops) if self._left and self._faults.between_steps else []
        return (*found, *faults)

    def _looks(self, number: int) -> Sequence[Choice]:
        jumps = len(self._faults.clock_jumps) if self._left else 0
        return (
            Choice("look", number),
            *(Choice("jump", number, jump=jump) for jump in range(jumps)),
        )

    def _ways(self, number: int, stop: Any) -> list[Choice]:
        """How a client may go on while others can as well."""
        match stop:
            case Sending() | Local():
                return [_go(number)]
            case Blocked():
                if stop.answered():
                    return [_go(number)]
                return [_time_out(number)] if stop.seconds and self._faults.expiries else []
            case Asleep() if self._others_moved_since(number, self._woke_at[number]):
                return [_go(number)]
        return []

    def _others_moved_since(self, number: int, then: int | None) -> bool:
        """Or else one who asks, sleeps and asks again would do so for ever."""
        return then is None or any(event.client != number for event in self.trace[then:])

    def _later(self, number: int, stop: Any) -> list[Choice]:
        """How it may go on when nobody can otherwise: time passes."""
        if isinstance(stop, Asleep):
            return [_go(number)]
        return [_time_out(number)] if isinstance(stop, Blocked) and stop.seconds else []

    def _mishaps(self, stops: Sequence[Any]) -> list[Choice]:
        allowed, found = self._faults, []
        for number, stop in enumerate(stops):
            if isinstance(stop, Ended):
                continue
            if allowed.crashes and self._steps_of[number]:
                found.append(Choice("crash", number))
            if isinstance(stop, Sending) and not any(map(untimed, stop.commands)):
                if allowed.lost_replies:
                    found.append(Choice("lose reply", number))
                if allowed.lost_requests:
                    found.append(Choice("lose request", number))
        if allowed.expiries:
            volatile = self._stage.server.eval(_VOLATILE, 0)
            found += [Choice("expire", key=key) for key in volatile]
        if allowed.script_flushes:
            found.append(Choice("flush"))
        return found

    # --- what happens ---

    def take(self, choice: Choice) -> Done:
        """See :class:`~kvlab.instruments.search.Execution`."""
        self._taken += 1
        self._left -= choice.is_fault
        if choice.kind == "expire":
            self._stage.server.unlink(choice.key)
            self.trace.append(Event("expire", None, key=choice.key))
            touched = Footprint(writes=frozenset({choice.key}))
        elif choice.kind == "flush":
            self._stage.scripts.flush()
            self.trace.append(Event("flush", None))
            touched = Footprint(writes=frozenset({SCRIPT_CACHE}))
        else:
            assert choice.client is not None
            return self._move(choice, self._stage.actors[choice.client])
        if self._stage.footprints is not None:
            self._changes = self._stage.footprints.changes()
        return Done(choice, touched)

    def _move(self, choice: Choice, actor: Actor) -> Done:
        lane, number = actor.lane, actor.lane.number
        stop = lane.stop
        commands = stop.commands if isinstance(stop, Sending | Blocked) else ()
        label = stop.label if isinstance(stop, Local) else ""
        waiting = self._waiting() if self._stage.footprints is not None else []
        if isinstance(stop, Asleep) and choice.kind == "go":
            label = f"slept {stop.seconds:.3g} s"
            self._pass(stop.until - self._clock.monotonic)
        if choice.kind == "jump":
            lane.jump(self._faults.clock_jumps[choice.jump])
            label = f"clock jumps {self._faults.clock_jumps[choice.jump]:+g} s"
        if choice.kind == "time out":
            assert isinstance(stop, Blocked)
            self._pass(stop.until - self._clock.monotonic)
            self._stage.server.execute_command("CLIENT", "UNBLOCK", stop.connection, "TIMEOUT")
        lane.resume(choice.kind if choice.kind in _ORDERS else "go")  # type: ignore[arg-type]
        self._steps_of[number] += choice.kind not in ("look", "jump")
        replies = tuple(lane.replies)
        ended = isinstance(lane.stop, Ended)
        self._note_end(actor)
        touched = self._touched(choice, stop, lane.stop, waiting)
        if choice.kind != "look":
            self._note_watch(number, commands)
            result = self.results[number]
            event = Event(choice.kind, number, commands, replies, label, b"", ended, result)
            self.trace.append(event)
        if isinstance(stop, Asleep):
            self._woke_at[number] = len(self.trace)
        self._cold |= self._stage.scripts.note(commands, replies)
        return Done(choice, touched)

    def _waiting(self) -> list[Blocked]:
        stops = (actor.lane.stop for actor in self._stage.actors)
        return [stop for stop in stops if isinstance(stop, Blocked) and not stop.answered()]

    def _touched(
        self, choice: Choice, before: Any, after: Any, waiting: Sequence[Blocked]
    ) -> Footprint:
        """What a client's step touched. One that changed no data only read."""
        footprints, number = self._stage.footprints, choice.client
        if footprints is None or number is None:
            return EVERYTHING
        changes, self._changes = self._changes, footprints.changes()
        match before:
            case Local(_, touches, reads):
                return Footprint(reads=touches) if reads else Footprint(writes=touches)
            case Asleep() | Blocked() if choice.kind != "go" or isinstance(before, Asleep):
                return EVERYTHING
            case Sending(commands) if choice.kind in ("go", "lose reply"):
                touched = footprints.of(commands) | self._watched[number]
                if changes is not None and changes == self._changes:
                    touched = touched if isinstance(after, Blocked) else touched.without_change()
                for stop in waiting:
                    if stop.answered():  # the server did for it what it had waited to do
                        touched |= footprints.of(stop.commands)
                return touched
        return Footprint()

    def commute(self, one: Done, other: Done) -> bool:
        """See :class:`~kvlab.instruments.search.Execution`."""
        if one.choice.is_fault and other.choice.is_fault:  # the first may be the last allowed
            return False
        if one.choice.client is not None and one.choice.client == other.choice.client:
            return False
        return not one.touched.meets(other.touched)

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
_time_out = functools.cache(functools.partial(Choice, "time out"))
_ORDERS = {"go", "crash", "lose reply", "lose request", "time out"}
