"""Whether the server answers, as the calls of an executor have found out.

A server that is silent costs a call its whole ``timeout``. So an executor remembers the silence:

* A call whose answer does not come within ``timeout`` sends PING on a new connection, and waits
  half of ``timeout``. When the server answers, only the connection was dead: nothing changes for
  other calls. When the server is silent, an outage begins.
* During an outage a call is answered at once: ``ServerUnavailable``, nothing was sent. The server
  is tried on one call at a time: the call opens a connection and sends PING before it sends its
  ops. The first try comes ``PAUSES`` times as long after the failure as the failed try took, but at
  most ``LONGEST_PAUSE`` seconds after (or as long as the try took, if that is longer). A try that
  is interrupted or cancelled holds nobody up: the next try comes one pause later.
* Every answer ends the outage. The connection that was silent is kept until then. Its late answer
  ends the outage too, so a server that was frozen is used again at once.
* A failure that comes in less than half of ``timeout``, such as a refused connection, costs
  little: it is shown, and every call tries the server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis.exceptions

from kvlab.core.wire import Exchange

PAUSES = 4
"""How many times longer than the failed try the pause before the next try is."""
LONGEST_PAUSE = 5.0
"""Seconds; a pause is longer only when the try took longer."""
QUICK = 0.5
"""The part of ``timeout`` in which a PING must be answered, and a failure costs little."""
BELIEVED = 0.5
"""Seconds for which a refusal on a new connection is taken for the server's word."""


@dataclass(frozen=True, slots=True)
class Downtime:
    """An outage; times are of the executor's clock (``kv.clock()``), in seconds.

    * ``since``: when the first try that failed began.
    * ``next_try``: from then on a call tries the server; until then no call does.
    * ``pause``: from one try to the next, in seconds; 0 when every call tries.
    * ``reason``: what the last try met.
    """

    since: float
    next_try: float
    pause: float
    reason: str


class Health:
    """The health of one server; executors of one client share it. Safe between threads.

    ``failover``: the first seconds of an outage, in which every call tries the server, since a
    Sentinel may name another one; 0 when the server has a fixed address.
    """

    def __init__(self, clock: Callable[[], float], timeout: float, failover: float = 0.0) -> None:
        self.outage: Downtime | None = None
        self.witness: Any = None
        """The connection that was silent, which its pool keeps open during the outage."""
        self.clock, self.timeout, self.quick = clock, timeout, timeout * QUICK
        self.moves, self._failover = failover > 0, failover
        self._tries: dict[float, object] = {}
        self._believed_until = clock()

    def is_try(self) -> bool:
        """Whether this call is the one that tries the server; ConnectionError if it must not."""
        outage = self.outage
        if outage is None or not outage.pause:
            return False
        now = self.clock()
        # The first try, or one of those that follow in case it is interrupted. No lock: an
        # interrupt or a fork in the middle must leave nothing taken for ever.
        number = max(-1, (now - outage.next_try) // outage.pause)
        if number >= 0 and self._tries.setdefault(number, me := object()) is me:
            return True
        wait = outage.next_try + (number + 1) * outage.pause - now
        raise ConnectionError(
            f"no answer for {now - outage.since:.3g} s, the next try is in {wait:.3g} s at most; "
            f"the last try: {outage.reason}"
        )

    def failed(self, began: float, problem: Exception) -> None:
        """A new connection, tried from ``began`` on, had no answer."""
        now = self.clock()
        took = max(now - began, self.timeout if is_silence(problem) else 0.0)
        since = now - took if self.outage is None else self.outage.since
        pause = 0.0
        if took >= self.quick and now >= since + self._failover:
            pause = max(took, min(PAUSES * took, LONGEST_PAUSE))
        self._tries.clear()
        reason = f"{type(problem).__name__}: {problem}"
        self.outage = Downtime(since, now + pause, pause, reason)

    def moved(self, exchange: Exchange) -> bool:
        """Whether ops that a connection condemned itself by refusing are retried on a new one.

        When the new connection refuses them too, the server itself refuses. That is believed for
        ``BELIEVED`` seconds, so that a server that refuses for long costs few connections.
        """
        if exchange.elsewhere:
            self._believed_until = self.clock() + BELIEVED
            return False
        if self.clock() < self._believed_until:
            return False
        exchange.retry_elsewhere()
        return True


def is_silence(problem: Exception) -> bool:
    """Whether an answer did not come in time, rather than the connection ended."""
    return isinstance(problem, TimeoutError | redis.exceptions.TimeoutError)
