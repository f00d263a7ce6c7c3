"""Round trips to several servers at the same time, on threads: send to all, then read from all."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from kvlab.core.op import Raw
from kvlab.core.transport.connections import BROKEN, not_connected, packed, patience
from kvlab.core.transport.link import is_last
from kvlab.core.transport.pool import Connections
from kvlab.core.wire import Answer, Command
from kvlab.errors import OutcomeUnknown, ServerRefused

_LATE = 0.05
"""The part of ``timeout`` for an answer that had its time already."""
Trip = Generator[None, bool | None, Answer]


def stages(connections: Connections, commands: list[Command], blocking: float | None) -> Trip:
    """``Connections.trip`` that stops when it has a connection, and again when all is sent.

    True that is sent into the last stop says that another trip has had no answer: this one had the
    same time, and is not waited for as long again.
    """
    request, wait = packed(commands), patience(blocking, connections.health.timeout)
    try:
        connection = connections.get(extra=blocking is not None)
    except BROKEN as problem:
        return [], not_connected(problem, connections.where)
    replies: list[Raw] = []
    complete = False
    try:
        yield
        connection.send(request, len(commands), replies)
        if (yield):
            wait = connections.health.timeout * _LATE
        connection.receive(len(commands), replies, wait)
        complete = not is_last(replies)
        return replies, None
    except BROKEN as problem:
        return connections.without_answer(connection, problem, replies)
    finally:  # an answer may still be due, also after KeyboardInterrupt
        connections.put(connection, complete=complete)


def together(trips: list[Trip]) -> list[Answer | ServerRefused]:
    """The answers of the trips, or the refusals of some."""
    answers: list[Any] = [None] * len(trips)
    try:
        for _ in ("connect", "send", "read"):
            silent = False
            for i, trip in enumerate(trips):
                if answers[i] is None:
                    try:
                        trip.send(silent or None)
                    except StopIteration as end:
                        answers[i] = end.value
                        silent = silent or isinstance(end.value[1], OutcomeUnknown)
                    except ServerRefused as refused:
                        answers[i] = refused
    finally:
        for trip in trips:
            trip.close()
    return answers
