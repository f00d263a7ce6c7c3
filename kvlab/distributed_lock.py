"""A lock that one client at a time holds, across processes and machines.

Guarantee of :class:`Lock`, on one server whose clock does not jump forward:

* At most one hold at any time; it has a TTL from its first instant, so a dead holder frees it.
* Only the token that took it renews or releases it. A token is drawn for each ``try_acquire()``
  call and each run of ``acquire``, so a ``Lock`` is a value to share between threads and tasks.
* Running the same op again is the same hold: a lost answer neither locks the caller out nor frees
  the lock for two. A release that is sent again says again what the first one did.
* Waiters are woken: a refused one blocks on a list for at most the holder's remaining TTL, and at
  most ``MAX_BLOCK`` seconds, then tries again. A release wakes one, and only if somebody waits.
  When a woken waiter dies before it tries, the others wait at most that long.
* Fences rise: each is max(last + 1, server time in µs), below 2**53. They rise while the fence key
  survives (``FENCE_MEMORY`` after the last hold) or the server's clock does not go back.

Keys, all in one hash slot, ``lock:{name}:`` before each, and each with a TTL:

===================  ======  ================================================================
``held``             string  ``<fence> <token>``; TTL of the lock
``fence``            string  the last fence; FENCE_MEMORY
``waiting``          string  exists while somebody may be waiting; the holder's TTL and 1 s
``wake``             list    one item: one waiter should try; no longer than ``waiting``
``spent:<token>``    string  what the release of the token answered; SPENT_MEMORY
``fenced:{key}``     hash    ``fence``, ``value`` of :func:`fenced_set`; its caller's TTL
===================  ======  ================================================================

Not promised:

* That a holder stops when its time is over. A process that is frozen past its TTL goes on writing;
  only a resource that refuses older fences (:func:`fenced_set`) stops it.
* One holder through a failover: a replica that has not seen the acquire gives the lock away again.
  Nor when the server's clock jumps forward or its memory policy evicts the key (``allkeys-*``).
* Fairness. Of the blocked waiters the one blocked longest is woken, but a newcomer may be faster,
  and the one that was passed blocks again behind the others. When a TTL ends without a release,
  everybody who waited for it tries.
"""

from __future__ import annotations

import functools
import math
import secrets
import uuid
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any

import redis

from kvlab.errors import InvalidArgument, OutcomeUnknown, ServerRefused, ServerUnavailable
from kvlab.hold import Held
from kvlab.op import Flow, Key, Now, Op, Raw, Script, Wait, flow, segment

MIN_TTL, MAX_TTL = 0.01, 86_400.0
"""Bounds of a lock's TTL, in seconds."""
FENCE_MEMORY = 7 * 86_400.0
"""Seconds after the last hold for which fences rise whatever the clock does."""
SPENT_MEMORY = 15.0
"""Seconds for which a release may be sent again: an executor's ``deadline`` must be shorter."""
MAX_BLOCK = 30.0
"""Seconds after which a waiter tries again, however long the holder's TTL."""
MAX_FENCE = 2**53 - 1

_ACQUIRE = Script.load("distributed_lock_acquire")
_RENEW = Script.load("distributed_lock_renew")
_RELEASE = Script.load("distributed_lock_release")
_FENCED_SET = Script.load("distributed_lock_fenced_set")


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)


_FENCE_MS, _SPENT_MS = _milliseconds(FENCE_MEMORY), _milliseconds(SPENT_MEMORY)


class NaiveLock:
    """The simple version: SETNX, then EXPIRE; GET, then DEL.

    What the seed says: "Set TTL to prevent deadlock", "Only delete if we own the lock".

    A crash between the two commands of ``acquire`` locks for ever::

        1. A: SETNX lock:orders <a>   → 1
        2. A dies before EXPIRE.
        3. TTL lock:orders            → -1
        4. Everybody: SETNX           → 0, for ever

    An expiry between the two commands of ``release`` frees somebody else's lock::

        1. A: GET lock:orders         → <a>, mine
        2. A's TTL ends.
        3. B: SETNX lock:orders <b>   → 1, B is inside
        4. A: DEL lock:orders         → 1, it was B's
        5. C: SETNX lock:orders <c>   → 1, B and C are inside

    A holder frozen past its TTL writes late, and nothing tells the resource::

        1. A: acquire, then freezes.  2. A's TTL ends.  3. B: acquire, write, release.
        4. A thaws and writes: B's work is gone.
    """

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self.client = client
        self.prefix = prefix

    def acquire(self, resource: str, timeout: int = 10) -> str | None:
        """The lock's value, or None when it is taken; ``timeout`` in seconds."""
        lock_key = f"{self.prefix}lock:{resource}"
        lock_value = str(uuid.uuid4())
        acquired = self.client.setnx(lock_key, lock_value)
        if acquired:
            self.client.expire(lock_key, timeout)
            return lock_value
        return None

    def release(self, resource: str, lock_value: str) -> bool:
        """True when the lock was ours, as the seed sees it."""
        lock_key = f"{self.prefix}lock:{resource}"
        current = self.client.get(lock_key)
        if current in (lock_value, lock_value.encode()):
            self.client.delete(lock_key)
            return True
        return False


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock by name; ``ttl``: seconds after which a holder that went silent loses it.

    ``name``: 1 character or more. ``ttl``: ``MIN_TTL`` to ``MAX_TTL``, rounded up to whole ms.
    Raises :class:`~kvlab.errors.InvalidArgument` for others.
    """

    name: str
    ttl: float
    _ms: int = field(init=False, repr=False, compare=False)
    _stem: str = field(init=False, repr=False, compare=False)
    _keys: tuple[Key, Key, Key, Key] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise InvalidArgument(f"name must be a text that is not empty, not {self.name!r:.80}")
        _number("ttl", self.ttl, MIN_TTL, MAX_TTL)
        put = object.__setattr__
        put(self, "_ms", _milliseconds(self.ttl))
        put(self, "_stem", f"lock:{{{segment(self.name)}}}:")
        put(self, "_keys", tuple(map(self._key, ("held", "fence", "waiting", "wake"))))

    def try_acquire(self) -> Op[Held | None]:
        """Take the lock if it is free: the hold, else None. One round trip.

        Each call of this method is an attempt of its own; the op it returns may be run again.
        For ``SPENT_MEMORY`` seconds after the release of its hold the op answers None.
        """
        return self._attempt(_new_token(), False, _held_or_none)

    def renew(self, held: Held) -> Op[bool]:
        """Count the TTL from now on again; False when this hold is over. One round trip."""
        return Op(_RENEW, self._keys[0], held.token, self._ms, decode=bool, idempotent=True)

    def release(self, held: Held) -> Op[bool]:
        """Give the lock back; False when the hold was over before. One round trip.

        Run again within ``SPENT_MEMORY`` seconds, it answers what it answered at first.
        """
        held_key, _, waiting, wake = self._keys
        return Op(
            _RELEASE,
            held_key,
            waiting,
            wake,
            self._key(f"spent:{segment(held.token)}"),
            held.token,
            _SPENT_MS,
            decode=bool,
            idempotent=True,
        )

    def acquire(self, wait: float) -> Flow[Held | None]:
        """Take the lock, waiting for it at most ``wait`` seconds (``math.inf``: for ever).

        None when the wait is over (at most about 0.1 s late: the server looks at its timeouts ten
        times a second); with ``wait=0``, after one try. Each run of the flow is an attempt of its
        own. Free: one round trip; taken: two more for each wake-up. Cancelled or interrupted, it
        leaves nothing held and hands on a wake-up that it may have received.
        """
        return self._acquire(_number("wait", wait, 0, math.inf))

    @flow
    def _acquire(self, wait: float) -> Generator[Any, Any, Held | None]:
        token = _new_token()
        began = asked = yield from Now()
        try:
            while True:
                left = began + wait - asked
                answer = yield from self._attempt(token, left > 0, _held_or_seconds)
                if isinstance(answer, Held):
                    if (yield from Now()) - asked < self.ttl:
                        return replace(answer, since=asked)
                    # The answer took a whole TTL: it may be over. An attempt of its own again.
                    yield from self.release(answer)
                    token = _new_token()
                if left <= 0:
                    return None
                if not isinstance(answer, Held):
                    yield from self._woken(min(answer, left, MAX_BLOCK))
                asked = yield from Now()
        except (GeneratorExit, ServerUnavailable, ServerRefused):
            raise  # nothing runs after the first; the others took nothing
        except BaseException as problem:
            # The lock may be ours without our knowing, or a wake-up meant for all is with us.
            try:
                yield from self.release(Held(token, 0))
            except (ServerUnavailable, OutcomeUnknown, ServerRefused) as failure:
                problem.add_note(f"lock {self.name!r:.80} may stay taken for its TTL: {failure}")
            raise

    def _woken(self, seconds: float) -> Generator[Any, Any, None]:
        seconds = max(0.001, round(seconds, 3))
        try:
            yield from Op("BLPOP", self._keys[3], seconds, blocking=seconds)
        except (ServerUnavailable, OutcomeUnknown):
            yield from Wait(min(0.1, seconds))  # the connection broke: the next try tells

    def _attempt(self, token: str, waits: bool, decode: Any) -> Op[Any]:
        return Op(
            _ACQUIRE,
            *self._keys,
            self._key(f"spent:{token}"),
            token,
            self._ms,
            _FENCE_MS,
            int(waits),
            decode=functools.partial(decode, token),
            idempotent=True,
        )

    def _key(self, what: str) -> Key:
        return Key(self._stem + what)


def fenced_set(key: str, value: str | bytes, fence: int, *, ttl: float = 86_400) -> Op[bool]:
    """Write ``value`` for ``ttl`` seconds unless a higher fence has written; False when refused.

    The smallest resource that checks fences. It remembers the fence as long as the value.
    """
    if isinstance(fence, bool) or not isinstance(fence, int) or not 0 < fence <= MAX_FENCE:
        raise InvalidArgument(f"fence must be an int from 1 to 2**53 - 1, not {fence!r}")
    lifetime = _milliseconds(_number("ttl", ttl, MIN_TTL, 100 * 365 * 86_400))
    return Op(_FENCED_SET, _fenced(key), fence, value, lifetime, decode=bool, idempotent=True)


def fenced_get(key: str) -> Op[bytes | None]:
    """What :func:`fenced_set` wrote, or None."""
    return Op("HGET", _fenced(key), "value", idempotent=True)


def _fenced(key: str) -> Key:
    return Key(f"fenced:{{{segment(key)}}}")


def _new_token() -> str:
    return secrets.token_hex(16)


def _held_or_none(token: str, reply: Raw) -> Held | None:
    return Held(token, int(reply[1])) if reply[0] else None


def _held_or_seconds(token: str, reply: Raw) -> Held | float:
    # PTTL rounds down: a millisecond later the TTL is over.
    return Held(token, int(reply[1])) if reply[0] else (reply[1] + 1) / 1000


def _number(name: str, value: float, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidArgument(f"{name} must be {least:g} to {most:g} seconds, not {value!r:.80}")
    return value
