"""Commands as requests of the REST protocol, and answers as replies. Pure: no network here."""

from __future__ import annotations

import binascii
import json
import random
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import hiredis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse

from kvlab.errors import AnswerTooLarge, NotOverHttp, ServerRefused

MAX_ANSWER = 128 * 1024 * 1024
"""The most bytes of an answer's body: the gateway sends no more, the executor reads no more."""
TOO_LARGE = "ERR max response size exceeded"
"""How the error of an answer with more begins; the commands have run."""
SHORTEST, LONGEST = 0.02, 1.0
"""Seconds: about the pause before the first retry, and the longest pause."""

_error: Callable[[str], Exception] = DefaultParser.parse_error

_BLOCKING = {"BLPOP", "BRPOP", "BLMOVE", "BLMPOP", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX", "BZMPOP"}
_BLOCKING |= {"WAIT", "WAITAOF"}
_LISTENING = {"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "MONITOR", "SYNC", "PSYNC"}
_LISTENING |= {"UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"}
_CHANGING = {"MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "SELECT", "AUTH", "HELLO", "CLIENT"}
_CHANGING |= {"RESET", "QUIT", "READONLY", "READWRITE", "ASKING"}
_NEED_A_CONNECTION = frozenset(_BLOCKING | _LISTENING | _CHANGING)


@dataclass(frozen=True, slots=True)
class Request:
    """``count`` commands; in a transaction MULTI and EXEC are not among them.

    ``refused``: the commands that are not sent, by their place among all of them.
    """

    path: str
    body: bytes
    count: int
    atomic: bool
    refused: dict[int, NotOverHttp]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: ``kind`` is the content type; ``wait`` is the header Retry-After.

    ``whole``: whether this is all of the body; more than ``MAX_ANSWER`` bytes are not read.
    """

    status: int
    kind: str
    wait: str
    body: bytes
    whole: bool = True


def pauses() -> Iterator[float]:
    """Seconds before each retry: twice as long each time, less a random part of up to a half, so
    that callers that failed together do not come back together."""
    longest = SHORTEST
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(2 * longest, LONGEST)


def request(packed: bytes) -> Request:
    """The request for commands as a server reads them on TCP.

    A command that HTTP cannot carry fails alone. :class:`~kvlab.errors.NotOverHttp` is raised when
    no other command is left, and in a transaction.
    """
    commands = _commands(packed)
    atomic = commands[0] == [b"MULTI"] and commands[-1] == [b"EXEC"]
    sent, refused = [], {}
    for i, command in enumerate(commands[1:-1] if atomic else commands):
        try:
            sent.append(_carried(command))
        except NotOverHttp as problem:
            refused[i] = problem
    if refused and (atomic or not sent):
        raise next(iter(refused.values()))
    path = "/multi-exec" if atomic else "/pipeline" if len(sent) > 1 else ""
    body = json.dumps(sent if path else sent[0], ensure_ascii=False, separators=(",", ":"))
    return Request(path, body.encode(), len(sent), atomic, refused)


def _commands(packed: bytes) -> list[list[bytes]]:
    reader = hiredis.Reader(notEnoughData=None)
    reader.feed(packed)
    return list(iter(reader.gets, None))


def _carried(command: list[bytes]) -> list[str]:
    try:
        name, *arguments = [part.decode() for part in command]
    except UnicodeDecodeError:
        raise NotOverHttp(
            "ERR nothing was sent: JSON carries no argument that is not UTF-8"
        ) from None
    if _is_misplaced(name.upper(), arguments):
        needs = "needs a connection that stays open, and HTTP has none"
        raise NotOverHttp(f"ERR nothing was sent: {name:.40} {needs}")
    return [name, *arguments]


def _is_misplaced(name: str, arguments: Iterable[str]) -> bool:
    if name in ("XREAD", "XREADGROUP"):
        return any(argument.upper() == "BLOCK" for argument in arguments)
    return name in _NEED_A_CONNECTION


def replies(asked: Request, answer: Answer) -> list[Any]:
    """The replies as they come on TCP; an error reply is an exception among them.

    Raises :class:`~kvlab.errors.ServerRefused` when HTTP refuses the whole request: nothing ran.
    Raises redis-py's error of a lost answer when the answer does not say what happened.
    """
    if answer.status >= 500:
        raise RedisConnectionError(_shown(answer))
    if not answer.whole:
        text = f"{TOO_LARGE}: an answer has at most {MAX_ANSWER} bytes"
        said: Any = {"error": text}
    else:
        said = _json(answer)
    if answer.status in (401, 429) or not _fits(asked, said):
        if answer.status < 300:
            raise InvalidResponse(f"{_shown(answer)}, which is no answer of a REST store")
        refused = ServerRefused(_refusal(answer, said))
        if answer.wait.isdecimal() and len(answer.wait) < 9:
            refused.retry_after = float(answer.wait)
        raise refused
    if asked.atomic:
        executed = _reply(said) if isinstance(said, dict) else [_reply(item) for item in said]
        if isinstance(executed, AnswerTooLarge):  # it ran: each command has lost its reply
            executed = [_reply(said) for _ in range(asked.count)]
        return [b"OK", *[b"QUEUED"] * asked.count, executed]
    # Of an error for all each caller gets its own: tracebacks pile up on a shared one.
    items = said if isinstance(said, list) else [said] * asked.count
    values = [_reply(item) for item in items]
    for i, problem in asked.refused.items():
        values.insert(i, problem)
    return values


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _fits(asked: Request, said: Any) -> bool:
    """Whether this is the shape of an answer to that request."""
    if not asked.path or (isinstance(said, dict) and "error" in said):
        return _is_item(said)
    return isinstance(said, list) and len(said) == asked.count and all(map(_is_item, said))


def _is_item(said: Any) -> bool:
    return isinstance(said, dict) and ("result" in said or isinstance(said.get("error"), str))


def _reply(item: dict[str, Any]) -> Any:
    if "result" in item:
        return _value(item["result"])
    words = item["error"]
    return AnswerTooLarge(words) if words.startswith(TOO_LARGE) else _error(words)


def _value(said: Any) -> Any:
    if isinstance(said, str):
        try:
            # No text of base64 has two characters.
            return b"OK" if said == "OK" else b64decode(said, validate=True)
        except binascii.Error:
            return said.encode()
    if isinstance(said, list):
        return [_value(part) for part in said]
    if said is None or type(said) is int:
        return said
    raise InvalidResponse(f"a result is {said!r:.80}, which RESP does not have")


def _refusal(answer: Answer, said: Any) -> str:
    """The error reply for an answer that refuses: nothing ran."""
    error = said.get("error") if isinstance(said, dict) else None
    words = error if isinstance(error, str) else _shown(answer)
    if answer.status == 401:
        return words if words.startswith("WRONGPASS ") else f"WRONGPASS {words}"
    if answer.status == 429:
        later = f"; Retry-After: {answer.wait}" if answer.wait else ""
        return f"TOOMANYREQUESTS {words}{later}"
    return words if error is not None else f"ERR {words}"


def _shown(answer: Answer) -> str:
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = "?"
    return (
        f"HTTP {answer.status} {phrase} ({answer.kind or 'of no type'}, {len(answer.body)} bytes)"
    )
