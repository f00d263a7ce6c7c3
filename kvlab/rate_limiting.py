"""Rate limiting: how much one key may use up in a time, decided on the server in one step.

Guarantee, by the server's clock, for any number of clients:

* :class:`FixedWindow`: at most ``limit`` units in each window; windows start at multiples of
  ``window`` since 1970. An interval over an edge can hold 2 × ``limit``.
* :class:`SlidingWindowLog`: at most ``limit`` units in any half-open interval of ``window``.
* :class:`SlidingWindowCounter`: this window's units plus the last one's, weighed by the part of
  it that still overlaps, are at most ``limit``. A true interval can exceed it.
* :class:`TokenBucket`: at most ``burst + t · limit / window`` units in any time ``t``.

Nothing that fits is denied, a denied hit uses up nothing, and ``retry_after`` is exact: the same
hit is admitted then, and not before, if nothing else is hit. One round trip each.

When the server's clock goes back by up to a second, time stands still for a key until the clock
has caught up. After a longer step what was used counts as used just now: the step admits nothing
more, and delays nobody longer than a full limiter does. A clock that jumps ahead ends windows
early, and admits again what those windows held.

Keys, all in the hash slot of the limited key; another ``window`` is another key, another limit is
not. Each expires 0.1 s after it stopped mattering; one found without a TTL gets it at the next hit:

* ``ratelimit:<name>:{<key>}:fixed-<window, µs>``: string; TTL the rest of the window
* ``…:log-<window, µs>``: sorted set, an entry for each admitted hit, whatever its cost; TTL one
  window. Stale ones go, up to 1000 with each hit. Measured bytes an entry: 31 in a log of 100;
  76 (Valkey 9.1) or 120 (Redis 7.0) in a large one, so 10**6 take 76 to 120 MB.
* ``…:counter-<window, µs>``: string; TTL to the end of the next window
* ``…:bucket-<window, µs>``: string; TTL until the bucket is full again
* ``<any of these>:op:<operation id>``: string; TTL ``RETRY_HORIZON``

Not promised: fairness between clients; counts that survive a failover (replication is
asynchronous) or eviction (use ``noeviction`` or ``volatile-ttl``).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import redis

from kvlab.errors import InvalidArgument
from kvlab.op import Key, Op, Raw, Script, segment

RETRY_HORIZON = 60.0
"""Seconds for which an ``op_id`` is remembered: an executor's ``deadline`` must be shorter."""
OUTAGE_RETRY = 1.0
"""Seconds after which a hit denied by ``outage="closed"`` is asked to come back."""
MAX_LIMIT = 2**53
"""The largest count that the server's Lua holds exactly."""
MAX_LOG = 10**6
"""The largest limit of a log, which keeps an entry for each admitted hit."""
MIN_WINDOW, MAX_WINDOW = 0.001, 366 * 86400.0  # seconds
_SF_INTEGER = 10**15 - 1  # the largest integer of a structured header field (RFC 9651)

Outage = Literal["raise", "open", "closed"]


# --- as the seed has it -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NaiveFixedWindow:
    """The seed's ``checkRateLimit``: INCR, and EXPIRE when the answer is 1. A crash between:

    1. the client sends INCR; the answer is 1
    2. the client dies before EXPIRE: the key has no TTL
    3. every later INCR answers 2, 3, … and nobody sets a TTL
    4. from the limit on, every hit is denied, for ever

    A lost reply counts twice: redis-py sends INCR again without a word. A denied hit counts too.
    """

    client: redis.Redis
    limit: int = 10
    window: int = 60
    prefix: str = ""

    def check(self, ip: str) -> bool:
        key = f"{self.prefix}ratelimit:{ip}"
        current: Any = self.client.incr(key)
        if current == 1:
            self.client.expire(key, self.window)
        return bool(current <= self.limit)


@dataclass(frozen=True, slots=True)
class NaiveSlidingWindow:
    """The seed's ``slidingWindowRateLimit``: count the entries, then add one.

    Limit 1, clients A and B:

    1. A: ZCOUNT answers 0
    2. B: ZCOUNT answers 0
    3. A: ZADD, admitted
    4. B: ZADD, admitted: two of one

    The time is each client's own: one whose clock is a window ahead removes everybody's entries.
    """

    client: redis.Redis
    limit: int = 10
    window_ms: int = 60_000
    prefix: str = ""
    clock: Callable[[], float] = field(default=lambda: time.time())  # whatever that is by then

    def check(self, key: str) -> bool:
        key = self.prefix + key
        now = int(self.clock() * 1000)
        window_start = now - self.window_ms
        self.client.zremrangebyscore(key, 0, window_start)
        count: Any = self.client.zcount(key, window_start, now)
        if count >= self.limit:
            return False
        self.client.zadd(key, {f"{now}:{random.random()}": now})
        self.client.expire(key, math.ceil(self.window_ms / 1000))
        return True


# --- what is decided --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """What a limiter promises, as HTTP names it: ``quota`` units in ``window`` seconds."""

    name: str
    quota: int
    window: float
    burst: int | None = None

    @property
    def quoted(self) -> str:
        """The name as a structured-field string."""
        plain = self.name if self.name.isascii() and self.name.isprintable() else segment(self.name)
        return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def __str__(self) -> str:
        item = f"{self.quoted};q={min(self.quota, _SF_INTEGER)}"
        if self.window == int(self.window):  # the field has no fractions
            item += f";w={int(self.window)}"
        return item if self.burst is None else f"{item};kvlab-burst={min(self.burst, _SF_INTEGER)}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a hit, or to a peek, which says what a hit would be told.

    * ``limit``: the most that fits at once (a bucket's burst); ``remaining``: what is left of it.
    * ``retry_after``: seconds until this cost fits; 0.0 when allowed, ``math.inf`` for never.
    * ``reset_after``: seconds until all of it is there again, if nothing more is used.
    * ``at``: the server's time in Unix seconds; None when the server did not answer.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after: float
    reset_after: float
    at: float | None
    policy: Policy | None = None

    def headers(self) -> dict[str, str]:
        """Response fields: ``RateLimit-Policy`` and ``RateLimit``, ``Retry-After`` if denied.

        By draft-ietf-httpapi-ratelimit-headers-11. Seconds are whole, rounded up. When denied,
        the effective window ``t`` ends with Retry-After, as its section 6 asks. There is no
        Retry-After for "never", and no RateLimit when the server did not answer.
        """
        fields = {} if self.policy is None else {"RateLimit-Policy": str(self.policy)}
        wait = None if self.allowed or self.retry_after == math.inf else math.ceil(self.retry_after)
        if self.at is not None:
            name = '"default"' if self.policy is None else self.policy.quoted
            window = math.ceil(self.reset_after) if wait is None else wait
            fields["RateLimit"] = f"{name};r={min(self.remaining, _SF_INTEGER)};t={window}"
        if wait is not None:
            fields["Retry-After"] = str(wait)
        return fields


# --- the limiters -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Limiter:
    """What the four share: ``limit`` units per ``window`` seconds, for each key by itself.

    ``name`` tells limiters apart. ``outage``: what a hit or a peek answers when the server gives
    no answer: raise ServerUnavailable or OutcomeUnknown, or let everybody ("open") or nobody
    ("closed") through. Raises :class:`~kvlab.errors.InvalidArgument` for values out of range.
    """

    name: str
    limit: int
    window: float
    outage: Outage = field(default="raise", kw_only=True)

    _kind: ClassVar[str]
    _script: ClassVar[str]

    # worked out once, at construction
    _most: int = field(init=False, repr=False, compare=False)
    _policy: Policy = field(init=False, repr=False, compare=False)
    _ends: tuple[str, str] = field(init=False, repr=False, compare=False)
    _numbers: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = segment(self.name)
        _whole("limit", self.limit, MAX_LIMIT)
        _window(self.window)
        if self.outage not in ("raise", "open", "closed"):
            raise InvalidArgument(f"outage must be raise, open or closed, not {self.outage!r}")
        micros = round(self.window * 1_000_000)
        self._keep("_ends", (f"ratelimit:{name}:{{", f"}}:{self._kind}-{micros}"))
        self._keep("_most", self.limit)
        self._keep("_numbers", (self.limit, micros))
        self._keep("_policy", Policy(self.name, self.limit, self.window))

    def _keep(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def hit(self, key: str, cost: int = 1, op_id: str | None = None) -> Op[Decision]:
        """Use up ``cost`` units of ``key`` if they fit, else nothing.

        With ``op_id`` an admitted hit counts once: repeated within ``RETRY_HORIZON`` seconds it
        answers as it did first (whatever its cost), so it is sent again by itself when its reply
        is lost. Draw one for each hit. A denied hit uses up nothing and is not remembered.
        """
        return self._op(key, cost, op_id, counting=True)

    def peek(self, key: str, cost: int = 1) -> Op[Decision]:
        """What a hit would be told; uses up nothing."""
        return self._op(key, cost, None, counting=False)

    def forget(self, key: str) -> Op[bool]:
        """Give ``key`` all its units back; whether any were used. Operation ids stay known."""
        return Op("UNLINK", self._key(key), decode=bool)

    def _op(self, key: str, cost: int, op_id: str | None, *, counting: bool) -> Op[Decision]:
        _whole("cost", cost, MAX_LIMIT)
        used = self._key(key)
        keys = (used,) if op_id is None else (used, Key(f"{used.name}:op:{segment(op_id)}"))
        return Op(
            Script.load(self._script),
            *keys,
            cost,
            int(counting),
            int(RETRY_HORIZON * 1000),
            *self._numbers,
            decode=self._decision,
            idempotent=not counting or op_id is not None,
            fallback=None if self.outage == "raise" else self._unanswered,
        )

    def _key(self, key: str) -> Key:
        before, after = self._ends
        return Key(before + segment(key) + after)

    def _decision(self, reply: Raw) -> Decision:
        allowed, remaining, retry, reset, at = reply
        wait = math.inf if retry < 0 else retry / 1e6
        return Decision(
            allowed == 1, self._most, remaining, wait, reset / 1e6, at / 1e6, self._policy
        )

    def _unanswered(self, _: Exception) -> Decision:
        allowed = self.outage == "open"
        wait = 0.0 if allowed else OUTAGE_RETRY
        return Decision(allowed, self._most, 0, wait, wait, None, self._policy)


@dataclass(frozen=True, slots=True)
class FixedWindow(_Limiter):
    """At most ``limit`` units in each window. The cheapest; twice as many can meet at an edge."""

    _kind = "fixed"
    _script = "rate_limiting_fixed_window"


@dataclass(frozen=True, slots=True)
class SlidingWindowLog(_Limiter):
    """At most ``limit`` units (up to ``MAX_LOG``) in any interval; an entry for each hit."""

    _kind = "log"
    _script = "rate_limiting_sliding_window_log"

    def __post_init__(self) -> None:
        _Limiter.__post_init__(self)
        _whole("limit of a log", self.limit, MAX_LOG)


@dataclass(frozen=True, slots=True)
class SlidingWindowCounter(_Limiter):
    """Two counts, the older one fading as if its hits had been spread evenly over its window."""

    _kind = "counter"
    _script = "rate_limiting_sliding_window_counter"


@dataclass(frozen=True, slots=True)
class TokenBucket(_Limiter):
    """``limit`` units per ``window`` seconds at a steady rate, and up to ``burst`` at once.

    ``burst`` is ``limit`` unless given. The generic cell rate algorithm (ITU-T I.371) in its
    leaky-bucket form, in whole numbers, so that no fraction of a unit is lost.
    """

    burst: int | None = None

    _kind = "bucket"
    _script = "rate_limiting_token_bucket"

    def __post_init__(self) -> None:
        _Limiter.__post_init__(self)
        burst = self.limit if self.burst is None else self.burst
        _whole("burst", burst, MAX_LIMIT)
        _, micros = self._numbers
        common = math.gcd(self.limit, micros)
        scale, drain = micros // common, self.limit // common
        if burst * scale > MAX_LIMIT:
            raise InvalidArgument(
                f"a burst of {burst} at {self.limit} per {self.window:g} s cannot be counted "
                f"exactly: at this rate at most {MAX_LIMIT // scale}; a rounder limit allows more"
            )
        self._keep("_most", burst)
        self._keep("_numbers", (burst, scale, drain))
        self._keep("_policy", Policy(self.name, self.limit, self.window, self.burst))


def _whole(name: str, value: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgument(f"{name} must be a whole number from 1 to {most}, not {value!r}")


def _window(value: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not MIN_WINDOW <= value <= MAX_WINDOW:
        raise InvalidArgument(f"window must be from 0.001 s to 366 days, not {value!r}")
