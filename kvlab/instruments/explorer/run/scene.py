"""One run of several clients against one server: what may happen next, and what happened."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from kvlab.instruments.explorer.run.actors import Actor
from kvlab.instruments.explorer.run.clients import KvRedis
from kvlab.instruments.explorer.run.events import (
    UNFINISHED,
    Choice,
    Done,
    Event,
    World,
)
from kvlab.instruments.explorer.run.footprints import (
    EVERYTHING,
    SCRIPT_CACHE,
    Footprint,
    Footprints,
)
from kvlab.instruments.explorer.run.lanes import (
    Asleep,
    Blocked,
    Clock,
    Command,
    Ended,
    Local,
    ReadsClock,
    Sending,
)
from kvlab.instruments.explorer.run.script_cache import ScriptCache
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.instruments.explorer.run.stepping import untimed
from kvlab.instruments.explorer.search import Again

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
  if left >= 0 then
    redis.call('PEXPIRE', key, string.format('%.0f', math.max(0, left - ARGV[1])))
  end
end"""


THE_END = "the end of a client"


@dataclass(frozen=True, slots=True)
class Stage:
    """What all runs share. ``kv`` is for setup and invariant, ``server`` for the explorer."""

    actors: Sequence[Actor]
    kv: KvRedis
    server: redis.Redis
    settings: Settings
    footprints: Footprints | None
    """None when nobody asks what commutes."""
    scripts: ScriptCache


class Run:
    """One run, from an empty server on: an ``Execution`` of :mod:`.search`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.settings = settings = stage.settings
        self.names = settings.names
        self._clock = Clock()
        random.seed(0)
        self._left = settings.max_faults
        self._faults = settings.faults
        self._steps_of = [0] * len(stage.actors)
        self._woke_at: list[int | None] = [None] * len(stage.actors)
        self._watched: list[Footprint] = [Footprint()] * len(stage.actors)
        self._changes: int | None = None
        self._cold = False
        self._taken = 0
        self._usual: list[Choice] = []  # what may happen next without a fault
        self.results: list[Any] = [UNFINISHED] * len(stage.actors)
        self.trace: list[Event] = []
        self.problem: str | None = None
        stage.server.flushdb()
        stage.scripts.begin()
        if settings.setup is not None:
            settings.setup(stage.kv)
        for actor in stage.actors:
            actor.begin(self._clock, jumps=bool(settings.faults.clock_jumps))
            self._note_end(actor)
        if stage.footprints is not None:
            self._changes = stage.footprints.changes()

    @property
    def world(self) -> World:
        return World(self.results, self._stage.kv, tuple(self.trace))

    # --- what may happen ---

    def options(self) -> Sequence[Choice]:
        """See ``Execution``."""
        if self.problem:
            return ()
        stops = [actor.lane.stop for actor in self._stage.actors]
        found = [_go(n) for n, stop in enumerate(stops) if self._can_go(n, stop)]
        if not found and all(isinstance(stop, Ended) for stop in stops):
            return ()
        if self._taken >= self.settings.max_steps:
            self.problem = f"no end after {self._taken} steps (max_steps)"
            return ()
        for number, stop in enumerate(stops if self._faults.clock_jumps else ()):
            if isinstance(stop, ReadsClock):
                return self._looks(number)
        if due := self._due(stops):
            self._usual = [due]
            return self._usual
        time_passes = not found
        if time_passes:
            found = _of_time(stops)
        if not found:
            self.problem = "deadlock: " + " and ".join(
                f"{self.names[number]} waits at {stop.commands[0][0].decode()} for ever"
                for number, stop in enumerate(stops)
                if isinstance(stop, Blocked)
            )
            return ()
        self._usual = found
        faults = self._mishaps(stops) if self._left and self._faults.between_steps else []
        if self._left and self._faults.expiries and not time_passes:
            faults += [choice for choice in _of_time(stops) if choice.kind == "time out"]
        return (*found, *faults)

    def _looks(self, number: int) -> Sequence[Choice]:
        jumps = len(self._faults.clock_jumps) if self._left else 0
        look = Choice("look", number)
        self._usual = [look]
        return (
            look,
            *(Choice("jump", number, jump=jump) for jump in range(jumps)),
        )

    def _due(self, stops: Sequence[Any]) -> Choice | None:
        """The wait whose time has been up the longest, since somebody slept past its end."""
        over = [
            (stop.until, number)
            for number, stop in enumerate(stops)
            if isinstance(stop, Blocked) and stop.seconds and stop.until <= self._clock.monotonic
            if not stop.answered()
        ]
        return _time_out(min(over)[1]) if over else None

    def _can_go(self, number: int, stop: Any) -> bool:
        """Whether it may go on while others can as well."""
        match stop:
            case Sending() | Local():
                return True
            case Blocked():
                return bool(stop.answered())
            case Asleep():
                return self._others_moved_since(number, self._woke_at[number])
        return False

    def _others_moved_since(self, number: int, then: int | None) -> bool:
        """Or else one who asks, sleeps and asks again would do so for ever."""
        return then is None or any(event.client != number for event in self.trace[then:])

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
        """See ``Execution``."""
        self._taken += 1
        self._left -= choice not in self._usual
        if choice.kind == "expire":
            self._stage.server.unlink(choice.key)
            self.trace.append(Event("expire", None, key=choice.key))
            touched = Footprint(writes=frozenset({choice.key, THE_END}))
        elif choice.kind == "flush":
            self._stage.scripts.flush()
            self.trace.append(Event("flush", None))
            touched = Footprint(writes=frozenset({SCRIPT_CACHE}))
        else:
            assert choice.client is not None
            return self._move(choice, self._stage.actors[choice.client])
        if self._stage.footprints is not None:
            self._has_changed()
        return Done(choice, touched)

    def _move(self, choice: Choice, actor: Actor) -> Done:
        lane, number = actor.lane, actor.lane.number
        stop = lane.stop
        commands = stop.commands if isinstance(stop, Sending | Blocked) else ()
        label = stop.label if isinstance(stop, Local) else ""
        waiting = self._waiting() if self._stage.footprints is not None else []
        if isinstance(stop, Asleep) and choice.kind == "go":
            label = f"sleeps {stop.seconds:.3g} s"
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
        if ended:  # it may be the last to end: no TTL can after that
            touched |= Footprint(reads=frozenset({THE_END}))
        if self._stage.footprints is not None:
            self._note_watch(number, commands)
        if choice.kind != "look":
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
        match before:
            case Local(_, touches, reads):
                return Footprint(reads=touches) if reads else Footprint(writes=touches)
            case Asleep() | Blocked() if choice.kind != "go" or isinstance(before, Asleep):
                return EVERYTHING
            case Sending(commands) if choice.kind in ("go", "lose reply"):
                touched = footprints.of(commands) | self._watched[number]
                if touched.writes and not self._has_changed() and not isinstance(after, Blocked):
                    touched = touched.without_change()
                for stop in waiting:
                    if stop.answered():  # the server did for it what it had waited to do
                        touched |= footprints.of(stop.commands)
                return touched
        return Footprint()

    def _has_changed(self) -> bool:
        """Whether any data are not as they were when last asked."""
        assert self._stage.footprints is not None
        before, self._changes = self._changes, self._stage.footprints.changes()
        return before is None or before != self._changes

    def commute(self, one: Done, other: Done) -> bool:
        """See ``Execution``."""
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
        """See ``Execution``.

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


def _of_time(stops: Sequence[Any]) -> list[Choice]:
    """What the passing of time may bring: a sleeper wakes, a wait is over."""
    found = []
    for number, stop in enumerate(stops):
        if isinstance(stop, Asleep):
            found.append(_go(number))
        if isinstance(stop, Blocked) and stop.seconds and not stop.answered():
            found.append(_time_out(number))
    return found


_go = functools.cache(functools.partial(Choice, "go"))
_time_out = functools.cache(functools.partial(Choice, "time out"))
_ORDERS = {"go", "crash", "lose reply", "lose request", "time out"}
