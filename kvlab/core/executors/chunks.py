"""A list of ops travels in chunks of at most ``CHUNK`` ops for a server, one after the other.

So a huge list neither fills a server's buffer nor holds up the others. On a cluster each node gets
its own chunks, and all nodes get their next chunk at the same time. When a chunk has no answer, the
chunks behind it, for the same server, are not sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from typing import Any

from kvlab.core.checks import shown
from kvlab.core.op import Op
from kvlab.core.wire import Exchange, TransportError, delivered, fallen_back
from kvlab.errors import InvalidArgument, ServerUnavailable

CHUNK = 500
"""The most ops of a list in one round trip."""

Send = Callable[[Sequence[Op[Any]]], Generator[Any, Any, Exchange]]


def in_chunks(
    ops: Sequence[Op[Any]], send: Send, place: Callable[[Op[Any]], Hashable]
) -> Generator[Any, Any, list[Any]]:
    """The results of the ops, of an op that failed its error; ``place``: the server of an op."""
    places = [place(op) for op in ops]
    results: list[Any] = [None] * len(ops)
    silent: set[Hashable] = set()
    for chunk in _chunks(places):
        for i in chunk:
            if places[i] in silent:
                unsent = ServerUnavailable("not sent: an earlier part had no answer")
                results[i] = fallen_back(ops[i], unsent)
        sent = [i for i in chunk if places[i] not in silent]
        if not sent:
            continue
        exchange = yield from send([ops[i] for i in sent])
        for i, result in zip(sent, exchange.results, strict=True):
            if isinstance(result, TransportError):
                silent.add(places[i])
        finished = delivered(exchange.finished(), return_exceptions=True)
        for i, result in zip(sent, finished, strict=True):
            results[i] = result
    return results


def _chunks(places: Sequence[Hashable]) -> list[list[int]]:
    """The first chunk of each place, then the second of each, and so on."""
    before: Counter[Hashable] = Counter()
    chunks: list[list[int]] = []
    for i, place in enumerate(places):
        number = before[place] // CHUNK
        before[place] += 1
        if number == len(chunks):
            chunks.append([])
        chunks[number].append(i)
    return chunks


def listed(given: Any) -> list[Any]:
    """What ``run([ops])`` was given, as a list."""
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InvalidArgument(f"run must get ops, one flow or a list of ops, not {shown(given)}")
    return list(given)
