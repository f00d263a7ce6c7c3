"""The four limiters: one script and one round trip for each hit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from kvlab.core.checks import Id, id_text, keep, one_of, seconds, text, whole
from kvlab.core.key import Key, segment
from kvlab.core.op import Op, Raw, Script, milliseconds, with_key
from kvlab.errors import InvalidArgument
from kvlab.rate_limiting.decision import Decision, Policy

RETRY_HORIZON = 60.0
"""An ``op_id`` is remembered for this many seconds; the executor's ``deadline`` must be shorter."""
_HORIZON = str(milliseconds(RETRY_HORIZON))
OUTAGE_RETRY = 1.0
"""``retry_after`` of a hit that ``outage="closed"`` denies, in seconds."""
MAX_LIMIT = 2**53
"""The largest count that a Lua script holds exactly."""
MAX_LOG = 10**6
"""The largest limit of a log; a log keeps an entry for each admitted hit."""
MAX_WINDOW = 366 * 86_400
"""The longest window, in seconds; the shortest is a millisecond."""

Outage = Literal["raise", "open", "closed"]


@dataclass(frozen=True, slots=True)
class _Limiter:
    """The common part of the four limiters: ``limit`` units per ``window`` seconds for each key.

    ``name`` distinguishes limiters. ``outage``: what a hit or a peek does when the server is silent
    or refuses for now: "raise" the :class:`~kvlab.errors.Outage`, or allow every hit ("open") or no
    hit ("closed"). Raises :class:`~kvlab.errors.InvalidArgument` for values out of range.
    """

    name: str
    limit: int
    window: float
    outage: Outage = field(default="raise", kw_only=True)

    _kind: ClassVar[str]
    _script: ClassVar[Script]

    # computed once, at construction
    _capacity: int = field(init=False, repr=False, compare=False)
    _policy: Policy = field(init=False, repr=False, compare=False)
    _key_around: tuple[str, str] = field(init=False, repr=False, compare=False)
    _rule: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _usual: Op[Decision] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = text("name", self.name)
        limit = whole("limit", self.limit, 1, MAX_LIMIT)
        window = seconds("window", self.window, high=MAX_WINDOW)
        micros = round(window * 1_000_000)
        keep(
            self,
            name=name,
            limit=limit,
            window=window,
            outage=one_of("outage", self.outage, ("raise", "open", "closed")),
            _key_around=(f"ratelimit:{segment(name)}:{{", f"}}:{self._kind}-{micros}"),
            _capacity=limit,
            _rule=(_HORIZON, str(limit), str(micros)),
            _policy=Policy(name, limit, window),
        )
        keep(self, _usual=self._op("", 1, None, counting=True))

    def hit(self, key: Id, cost: int = 1, op_id: Id | None = None) -> Op[Decision]:
        """Use ``cost`` units of ``key`` if they fit, else nothing.

        With ``op_id`` an admitted hit counts once: when repeated within ``RETRY_HORIZON`` seconds,
        it answers as the first time, whatever its cost. So the executor retries it when its reply
        is lost. Draw a new ``op_id`` for each hit. A denied hit uses nothing and is not
        remembered.
        """
        if op_id is None and type(cost) is int and cost == 1:  # not True, which is refused below
            return with_key(self._usual, self._key(key))
        return self._op(key, cost, op_id, counting=True)

    def peek(self, key: Id, cost: int = 1) -> Op[Decision]:
        """The answer that a hit would get; uses nothing."""
        return self._op(key, cost, None, counting=False)

    def forget(self, key: Id) -> Op[bool]:
        """Give ``key`` all its units back; True if any were used. Operation ids stay known."""
        return Op("UNLINK", self._key(key), decode=bool)

    def _op(self, key: Id, cost: int, op_id: Id | None, *, counting: bool) -> Op[Decision]:
        cost = whole("cost", cost, 1, MAX_LIMIT)
        keys = [used := self._key(key)]
        if op_id is not None:
            keys.append(Key(f"{used.name}:op:{segment(id_text('op_id', op_id, empty=False))}"))
        return Op(
            self._script,
            *keys,
            cost,
            "1" if counting else "0",
            *self._rule,
            decode=self._decision,
            idempotent=not counting or op_id is not None,
            fallback=None if self.outage == "raise" else self._unanswered,
        )

    def _key(self, key: Id) -> Key:
        before, after = self._key_around
        return Key(before + segment(key) + after)

    def _decision(self, reply: Raw) -> Decision:
        allowed, remaining, retry, reset, at = reply
        wait = math.inf if retry < 0 else retry / 1e6
        return Decision(
            allowed == 1, self._capacity, remaining, wait, reset / 1e6, at / 1e6, self._policy
        )

    def _unanswered(self, _: Exception) -> Decision:
        allowed = self.outage == "open"
        wait = 0.0 if allowed else OUTAGE_RETRY
        return Decision(allowed, self._capacity, 0, wait, wait, None, self._policy)


@dataclass(frozen=True, slots=True)
class FixedWindow(_Limiter):
    """At most ``limit`` units in each window; the cheapest. 2 × ``limit`` can meet at an edge."""

    _kind = "fixed"
    _script = Script.load("rate_limiting/fixed_window")


@dataclass(frozen=True, slots=True)
class SlidingWindowLog(_Limiter):
    """At most ``limit`` units (up to ``MAX_LOG``) in any interval; one entry for each hit."""

    _kind = "log"
    _script = Script.load("rate_limiting/sliding_window_log")

    def __post_init__(self) -> None:
        _Limiter.__post_init__(self)
        whole("limit of a log", self.limit, 1, MAX_LOG)


@dataclass(frozen=True, slots=True)
class SlidingWindowCounter(_Limiter):
    """Two counts: the older one fades as if its hits had been spread evenly over its window."""

    _kind = "counter"
    _script = Script.load("rate_limiting/sliding_window_counter")


@dataclass(frozen=True, slots=True)
class TokenBucket(_Limiter):
    """``limit`` units per ``window`` seconds at a steady rate, and up to ``burst`` at once.

    ``burst`` is ``limit`` by default. Source: the generic cell rate algorithm (ITU-T I.371) in its
    leaky-bucket form, in whole numbers, so that no fraction of a unit is lost.
    """

    burst: int | None = None

    _kind = "bucket"
    _script = Script.load("rate_limiting/token_bucket")

    def __post_init__(self) -> None:
        _Limiter.__post_init__(self)
        burst = self.limit if self.burst is None else whole("burst", self.burst, 1, MAX_LIMIT)
        micros = int(self._rule[-1])
        common = math.gcd(self.limit, micros)
        scale, drain = micros // common, self.limit // common
        if burst * scale > MAX_LIMIT:
            raise InvalidArgument(
                f"burst must be at most {MAX_LIMIT // scale} at {self.limit} per {self.window:g} s "
                f"to be counted exactly, not {burst}; a rounder limit allows more"
            )
        given = None if self.burst is None else burst
        policy = Policy(self.name, self.limit, self.window, given)
        keep(self, burst=given, _capacity=burst, _policy=policy)
        keep(self, _rule=(_HORIZON, str(burst), str(scale), str(drain)))
        keep(self, _usual=self._op("", 1, None, counting=True))
