"""Round trips to several servers at the same time, on threads: send to all, then read from all."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from kvlab.core.wire import Answer
from kvlab.errors import OutcomeUnknown, ServerRefused

Trip = Generator[None, bool | None, Answer]
"""The stages of a trip: :meth:`kvlab.core.transport.pool.Connections.stages`."""


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
