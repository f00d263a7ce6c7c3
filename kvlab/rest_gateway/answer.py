"""What the gateway answers: a status, and JSON of the store's replies. Pure: no network here."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from kvlab.core.wire import reply_text
from kvlab.errors import OutcomeUnknown, ServerUnavailable
from kvlab.rest.protocol import MAX_ANSWER, TOO_LARGE

_DISCARDED = "EXECABORT not executed because of: "
"""How the executor's error of a transaction that did not run begins; the protocol has the rest."""


class RestRefused(Exception):
    """The answer is an error: its HTTP ``status``, and its text in the protocol's words."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; the body is JSON."""

    status: int
    body: bytes


def error(status: int, text: str) -> Answer:
    """The answer of a request that has one error."""
    return Answer(status, _json({"error": text}))


def answer(
    results: list[Any], *, batch: bool, atomic: bool, base64: bool, most: int = MAX_ANSWER
) -> Answer:
    """The answer to the commands whose replies, or errors, these are, in at most ``most`` bytes."""
    for result in results:
        # Of a batch too: an array cannot say of one command that nobody knows.
        if isinstance(result, ServerUnavailable):
            raise RestRefused(503, f"ERR the store cannot be reached, nothing ran: {result}")
        if isinstance(result, OutcomeUnknown):
            raise RestRefused(504, f"ERR no answer from the store, it may have run: {result}")
    if atomic and all(isinstance(result, Exception) for result in results):
        for text in map(str, results):
            if text.startswith(_DISCARDED):
                raise RestRefused(400, text.removeprefix(_DISCARDED))
    if sum(map(_least, results)) > most:  # before copies of it are made
        raise _too_large(most)
    said = [_said(result, base64) for result in results]
    body = _json(said if batch else said[0])
    if len(body) > most:
        raise _too_large(most)
    return Answer(400 if "error" in said[0] and not batch else 200, body)


def _least(reply: Any) -> int:
    """So many bytes of an answer has this reply at least."""
    if isinstance(reply, list):
        return sum(map(_least, reply)) + len(reply)
    return len(reply) if isinstance(reply, bytes) else 1


def _too_large(most: int) -> RestRefused:
    return RestRefused(400, f"{TOO_LARGE}: an answer has at most {most} bytes; the commands ran")


def _said(result: Any, base64: bool) -> dict[str, Any]:
    if isinstance(result, Exception):
        return {"error": str(result)}
    return {"result": "OK" if result == b"OK" else _value(result, base64)}


def _value(reply: Any, base64: bool) -> Any:
    if isinstance(reply, bytes):
        return b64encode(reply).decode() if base64 else reply.decode(errors="replace")
    if isinstance(reply, list):
        return [_value(part, base64) for part in reply]
    return reply_text(reply) if isinstance(reply, Exception) else reply


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
