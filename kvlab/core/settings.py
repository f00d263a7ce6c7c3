"""How an executor behaves: one frozen value, the same for threads and for asyncio."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from kvlab.core.checks import function, keep, seconds
from kvlab.core.key import checked_prefix
from kvlab.core.wire import RoundTrip
from kvlab.errors import InvalidArgument

TIMEOUT = 2.0
"""Seconds to wait for a connection, and again for an answer."""
DEADLINE = 5.0
"""Seconds after which an executor no longer retries an idempotent op."""
LONGEST = 86_400
"""The longest ``timeout`` and ``deadline``, in seconds: a socket's own timeout ends at 24 days."""

Trace = Callable[[RoundTrip], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of an executor.

    * ``prefix``: the namespace that every :class:`~kvlab.Key` is put into; None stands for the
      environment variable ``KVLAB_PREFIX``, else ``kvlab:``.
    * ``timeout``: seconds to wait for a connection, and again for an answer. A server that does not
      answer is then tried on one call at a time: see ``kvlab.core.transport.health``. On threads
      each address of the host's name has that time, and the look-up of the name has no limit.
    * ``deadline``: seconds during which an idempotent op is retried when its answer is lost, and
      seconds to wait for a free connection (at most as many as the client's pool may open). Behind
      a Sentinel and on a cluster, where another server may take over, every op that could not be
      sent is retried for so long too, unless it blocks: it has not run. The pauses grow from
      0.02 s to 0.1 s. Keep ``deadline`` below 15 s where locks are held, and below 60 s where a
      limiter gets an ``op_id``: for so long they know a retry from a new call.
    * ``trace``: called with a :class:`~kvlab.core.wire.RoundTrip` after each round trip; an error
      that ``trace`` raises reaches the caller of ``run``.
    * ``clock``, ``sleep``: time as flows see it, for tests.

    Raises :class:`~kvlab.errors.InvalidArgument` for a value out of range.
    """

    sleep: Callable[[float], Any]
    prefix: str | None = None
    timeout: float = TIMEOUT
    deadline: float = DEADLINE
    trace: Trace | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        prefix = default_prefix() if self.prefix is None else checked_prefix(self.prefix)
        keep(
            self,
            prefix=prefix,
            timeout=seconds("timeout", self.timeout, high=LONGEST),
            deadline=seconds("deadline", self.deadline, high=LONGEST),
            clock=function("clock", self.clock),
            sleep=function("sleep", self.sleep),
        )
        if self.trace is not None:
            function("trace", self.trace)

    def within(self, part: str) -> Settings:
        """The same settings for a namespace inside this one."""
        return replace(self, prefix=f"{self.prefix}{checked_prefix(part)}")

    def keywords(self) -> dict[str, Any]:
        """The settings as an executor's keyword arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def default_prefix() -> str:
    """The prefix of an executor without one of its own: ``KVLAB_PREFIX``, else ``kvlab:``."""
    try:
        return checked_prefix(os.environ.get("KVLAB_PREFIX") or "kvlab:")
    except InvalidArgument as problem:
        raise InvalidArgument(f"environment variable KVLAB_PREFIX: {problem}") from None
