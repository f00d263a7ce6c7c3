"""The lock: acquire, renew and release, each in one script; waiters are woken."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from kvlab.core.checks import id_text, instance, keep, seconds
from kvlab.core.cleanup import insist, left_behind
from kvlab.core.flow import NOW, Flow, Wait, flow
from kvlab.core.hold import Held
from kvlab.core.key import Key, segment
from kvlab.core.op import Op, Raw, Script, milliseconds
from kvlab.errors import KvlabError, NotOverHttp, Outage, ServerRefused, ServerUnavailable

T = TypeVar("T")

MIN_TTL, MAX_TTL = 0.01, 86_400.0
"""Bounds of a lock's TTL, in seconds."""
FENCE_MEMORY = 7 * 86_400.0
"""Fences rise for this many seconds after the last hold, whatever the clock does."""
SPENT_MEMORY = 15.0
"""A release can be repeated for this many seconds; the executor's ``deadline`` must be shorter."""
MAX_BLOCK = 30.0
"""A waiter tries again after this many seconds at most, however long the holder's TTL is."""
POLL = 0.1
"""Behind HTTP, where nobody is woken, a waiter tries again after this many seconds."""

_ACQUIRE = Script.load("distributed_lock/acquire")
_RENEW = Script.load("distributed_lock/renew")
_RELEASE = Script.load("distributed_lock/release")
_FENCE_MS, _SPENT_MS = str(milliseconds(FENCE_MEMORY)), str(milliseconds(SPENT_MEMORY))


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock by name; a holder that does not renew loses it after ``ttl`` seconds.

    ``name``: the id of what is locked; not empty. ``ttl``: ``MIN_TTL`` to ``MAX_TTL``, rounded up
    to whole ms. Raises :class:`~kvlab.errors.InvalidArgument` for any other value.
    """

    name: str
    ttl: float
    _ms: str = field(init=False, repr=False, compare=False)
    _stem: str = field(init=False, repr=False, compare=False)
    _keys: tuple[Key, Key, Key, Key] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = id_text("name", self.name, empty=False)
        ttl = seconds("ttl", self.ttl, MIN_TTL, MAX_TTL)
        stem = f"lock:{{{segment(name)}}}:"
        keep(self, name=name, ttl=ttl, _ms=str(milliseconds(ttl)), _stem=stem)
        keep(self, _keys=tuple(map(self._key, ("held", "fence", "waiting", "wake"))))

    def try_acquire(self) -> Op[Held | None]:
        """Acquire the lock if it is free: the hold, else None. One round trip.

        Each call of this method is a new attempt; the op that it returns may be run again. For
        ``SPENT_MEMORY`` seconds after the release of its hold the op answers None.
        """
        token = _new_token()
        return self._attempt(token, False, partial(_held_or_none, token, None))

    def renew(self, held: Held) -> Op[bool]:
        """Start the TTL again from now; False when this hold is over. One round trip."""
        return Op(_RENEW, self._keys[0], _token(held), self._ms, decode=bool, idempotent=True)

    def release(self, held: Held) -> Op[bool]:
        """Give the lock back; False when the hold was over before. One round trip.

        When repeated within ``SPENT_MEMORY`` seconds, it answers as the first time.
        """
        held_key, _, waiting, wake = self._keys
        token = _token(held)
        return Op(
            _RELEASE,
            held_key,
            waiting,
            wake,
            self._key(f"spent:{segment(token)}"),
            token,
            _SPENT_MS,
            decode=bool,
            idempotent=True,
        )

    def acquire(self, wait: float) -> Flow[Held | None]:
        """Acquire the lock; wait for it at most ``wait`` seconds (``math.inf``: for ever).

        None when the wait is over (up to about 0.1 s late: the server checks its timeouts ten
        times a second); with ``wait=0``, after one try. Each run of the flow is a new attempt. A
        free lock costs one round trip, a taken lock two more for each wake-up. A flow that is
        cancelled or interrupted leaves nothing held, and passes on a wake-up that it may have
        received.
        """
        return self._acquire(seconds("wait", wait, 0, infinite=True))

    @flow
    def _acquire(self, wait: float) -> Generator[Any, Any, Held | None]:
        token = _new_token()
        began = asked = yield NOW
        try:
            while True:
                left = began + wait - asked
                decode = partial(_held_or_seconds, token, asked)
                answer = yield from self._attempt(token, left > 0, decode)
                if isinstance(answer, Held):
                    if (yield NOW) - asked < self.ttl:
                        return answer
                    # The answer took a whole TTL, so the hold may be over: a new attempt.
                    yield from self.release(answer)
                    token = _new_token()
                if left <= 0:
                    return None
                if not isinstance(answer, Held):
                    yield from self._woken(min(answer, left, MAX_BLOCK))
                asked = yield NOW
        except (GeneratorExit, ServerUnavailable, ServerRefused):
            raise  # nothing can run after the first; the other two acquired nothing
        except BaseException as problem:
            # The lock may be ours, or a wake-up for the waiters, and no answer said so.
            try:
                yield from insist(self.release(Held(token, 0)))
            except KvlabError as failure:
                what = f"lock {self.name!r:.80} may stay taken for its {self.ttl:g} s: {failure}"
                left_behind(problem, what)
            raise

    def _woken(self, longest: float) -> Generator[Any, Any, None]:
        longest = max(0.001, round(longest, 3))
        try:
            yield from Op("BLPOP", self._keys[3], longest, blocking=longest)
        except NotOverHttp:
            yield from Wait(min(POLL, longest))
        except Outage:
            yield from Wait(min(0.1, longest))  # the next try shows what is wrong

    def _attempt(self, token: str, waits: bool, decode: Callable[[Raw], T]) -> Op[T]:
        return Op(
            _ACQUIRE,
            *self._keys,
            self._key(f"spent:{token}"),
            token,
            self._ms,
            _FENCE_MS,
            "1" if waits else "0",
            decode=decode,
            idempotent=True,
        )

    def _key(self, what: str) -> Key:
        return Key(self._stem + what)


def _new_token() -> str:
    return secrets.token_hex(16)


def _token(held: Held) -> str:
    return instance("held", held, Held, "the hold that an acquire answered").token


def _held_or_none(token: str, asked: float | None, reply: Raw) -> Held | None:
    return Held(token, int(reply[1]), asked) if reply[0] else None


def _held_or_seconds(token: str, asked: float | None, reply: Raw) -> Held | float:
    # PTTL rounds down: a millisecond later the TTL is over.
    return _held_or_none(token, asked, reply) or (reply[1] + 1) / 1000
