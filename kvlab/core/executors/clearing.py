"""``kv.clear()``: the keys of one namespace are found by SCAN, and removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvlab.core.executors.requests import Running
from kvlab.core.op import Op
from kvlab.core.wire import Exchange

Send = Callable[[Sequence[Op[Any]]], Running[Exchange]]


def clearing(send: Send, prefix: str, *, one_by_one: bool) -> Running[int]:
    """Remove the keys of one server; ``one_by_one``: each key by a command of its own."""
    # Of the characters that a prefix may have, none means anything to SCAN's patterns.
    cursor, removed, pattern = b"0", 0, prefix + "*"
    while True:
        scan: Op[Any] = Op("SCAN", cursor, "MATCH", pattern, "COUNT", 1000, idempotent=True)
        ((cursor, keys),) = _results((yield from send([scan])))
        if keys:
            together = [[key] for key in keys] if one_by_one else [keys]
            unlinks = [Op("UNLINK", *names, decode=int) for names in together]
            removed += sum(_results((yield from send(unlinks))))
        if cursor == b"0":
            return removed


def _results(exchange: Exchange) -> list[Any]:
    for result in (results := exchange.finished()):
        if isinstance(result, BaseException):
            raise result
    return results
