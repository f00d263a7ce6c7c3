"""A list of ops travels in chunks of at most ``CHUNK`` ops, one chunk after the other.

So a huge list neither fills a server's buffer nor holds up the others. When a chunk has no answer,
the chunks behind it are not sent.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from kvlab.core.op import Op
from kvlab.core.wire import Exchange, delivered
from kvlab.errors import ServerUnavailable

CHUNK = 500
"""The most ops of a list in one round trip."""

Send = Callable[[Sequence[Op[Any]]], Generator[Any, Any, Exchange]]


def in_chunks(ops: Sequence[Op[Any]], send: Send) -> Generator[Any, Any, list[Any]]:
    """The results of the ops; of an op that failed its error."""
    results: list[Any] = []
    for start in range(0, len(ops), CHUNK):
        exchange = yield from send(ops[start : start + CHUNK])
        cut_short = exchange.lost
        results += delivered(exchange.finished(), return_exceptions=True)
        if cut_short:
            unsent = Exchange(ops[start + CHUNK :], "")
            unsent.absorb([], ServerUnavailable("not sent: an earlier part had no answer"))
            return results + unsent.finished()
    return results
