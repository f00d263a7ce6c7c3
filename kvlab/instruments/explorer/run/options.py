"""What may happen next in a run, by where its clients stand and which faults are allowed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kvlab.instruments.explorer.clients.blocking_commands import waits_for_replicas, waits_in
from kvlab.instruments.explorer.clients.clock import RunClock
from kvlab.instruments.explorer.clients.stops import (
    Asleep,
    Blocked,
    Ended,
    Local,
    ReadsClock,
    Sending,
    Stop,
)
from kvlab.instruments.explorer.run.choices import Choice
from kvlab.instruments.explorer.run.exploration import Exploration
from kvlab.instruments.explorer.run.steps import Step
from kvlab.instruments.explorer.server_state.ttls import Ttls

_go = functools.cache(functools.partial(Choice, "go"))
_time_out = functools.cache(functools.partial(Choice, "time out"))


@dataclass(slots=True)
class RunState:
    """How far a run has come. Lists have an item for each client.

    ``steps``: how many the client has made; ``waits``: how often it has slept or waited in vain;
    ``woke_at``: the length of the trace when it last
    woke from a sleep; ``taken``: all choices, those that are no steps too.
    """

    clock: RunClock
    ttls: Ttls
    faults_left: int
    results: list[Any]
    steps: list[int]
    waits: list[int]
    woke_at: list[int | None]
    trace: list[Step] = field(default_factory=list)
    taken: int = 0


@dataclass(frozen=True, slots=True)
class Options:
    """``usual`` needs no fault, each of ``faults`` is one. ``problem``: why nothing can happen
    although clients are left; ``undecided``: why the run is broken off."""

    usual: Sequence[Choice] = ()
    faults: Sequence[Choice] = ()
    problem: str | None = None
    undecided: str | None = None


def options_of(exploration: Exploration, state: RunState) -> Options:
    """The options at this point, the same each time after the same choices; none at the end."""
    settings = exploration.settings
    stops = exploration.stops
    usual = [_go(client) for client, stop in enumerate(stops) if _can_go(client, stop, state)]
    usual += [
        Choice("lose request", client)
        for client, program in enumerate(exploration.programs)
        if program.thread.closed
    ]
    if not usual and all(isinstance(stop, Ended) for stop in stops):
        return Options()
    if state.taken >= settings.max_steps:
        return Options(undecided=f"no end after {state.taken} steps (max_steps)")
    for client, stop in enumerate(stops if settings.faults.clock_jumps else ()):
        if isinstance(stop, ReadsClock):
            return _clock_is_read(client, len(settings.faults.clock_jumps), state)
    if due := _due(stops, state.clock):
        return Options([due])
    time_passes = not usual
    if time_passes:
        usual = _ends_of_waits(stops)
    if not usual:
        return Options(problem=_deadlock(stops, settings.names))
    if not state.faults_left:
        return Options(usual)
    faults = _faults(exploration, stops, state) if settings.faults.between_steps else []
    if settings.faults.expiries and not time_passes:
        faults += [choice for choice in _ends_of_waits(stops) if choice.kind == "time out"]
    return Options(usual, faults)


def _can_go(client: int, stop: Stop, state: RunState) -> bool:
    """Whether the client can go on while others can too.

    A client that has slept waits until another has moved: otherwise a client that asks, sleeps
    and asks again would do so for ever.
    """
    match stop:
        case Sending() | Local():
            return True
        case Blocked():
            return stop.answered()
        case Asleep():
            since = state.woke_at[client]
            return since is None or any(step.client != client for step in state.trace[since:])
    return False


def _clock_is_read(client: int, jumps: int, state: RunState) -> Options:
    possible = range(jumps if state.faults_left else 0)
    return Options(
        [Choice("look", client)], [Choice("jump", client, jump=jump) for jump in possible]
    )


def _due(stops: Sequence[Stop], clock: RunClock) -> Choice | None:
    """The time-out that is the longest overdue, since another client slept past it."""
    overdue = [
        (stop.until, client)
        for client, stop in enumerate(stops)
        if isinstance(stop, Blocked) and stop.seconds and stop.until <= clock.monotonic
        if not stop.answered()
    ]
    return _time_out(min(overdue)[1]) if overdue else None


def _ends_of_waits(stops: Sequence[Stop]) -> list[Choice]:
    """What the passing of time can bring: a client wakes, a blocking command times out."""
    found = []
    for client, stop in enumerate(stops):
        if isinstance(stop, Asleep):
            found.append(_go(client))
        if isinstance(stop, Blocked) and stop.seconds and not stop.answered():
            found.append(_time_out(client))
    return found


def _deadlock(stops: Sequence[Stop], names: Sequence[str]) -> str:
    return "deadlock: " + " and ".join(
        f"{names[client]} waits at {stop.commands[0][0].decode()} for ever"
        for client, stop in enumerate(stops)
        if isinstance(stop, Blocked)
    )


def _faults(exploration: Exploration, stops: Sequence[Stop], state: RunState) -> list[Choice]:
    allowed, found = exploration.settings.faults, []
    for client, stop in enumerate(stops):
        if isinstance(stop, Ended):
            continue
        if allowed.crashes and state.steps[client]:
            found.append(Choice("crash", client))
        if isinstance(stop, Sending) and not waits_in(stop.commands):
            if allowed.lost_replies:
                found.append(Choice("lose reply", client))
            if allowed.lost_requests and not exploration.programs[client].thread.closed:
                found.append(Choice("lose request", client))
        if isinstance(stop, Sending) and allowed.failovers and waits_for_replicas(stop.commands):
            found.append(Choice("wait in vain", client))
    if allowed.expiries:
        found += [Choice("expire", key=key) for key in state.ttls.keys]
    if allowed.script_flushes:
        found.append(Choice("flush"))
    if exploration.write_log is not None:
        losses = range(1, exploration.write_log.at_risk + 1)
        found += [Choice("fail over", lost=lost) for lost in losses]
    return found
