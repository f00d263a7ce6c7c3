"""The cache: its keys, its ops, and the flow ``fetch``, which reads, loads and fills."""

from __future__ import annotations

import math
import random
import secrets
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from kvlab.cache_aside.lookup import Fill, Lookup, decode_fill, decode_lookup
from kvlab.core import checks
from kvlab.core.calls import Waiter
from kvlab.core.checks import MAX_EXACT, Id
from kvlab.core.cleanup import insist, left_behind
from kvlab.core.flow import Call, Flow, Now, Wait, Waiting, flow
from kvlab.core.json_values import decoded, encoded
from kvlab.core.key import Key, segment
from kvlab.core.op import Op, Raw, Script, milliseconds
from kvlab.errors import (
    CannotServe,
    KvlabError,
    Outage,
)

T = TypeVar("T")
Steps = Generator[Any, Any, T]
Load = Callable[[], "T | Awaitable[T]"]

READ = Script.load("cache_aside/read")
FILL = Script.load("cache_aside/fill")
RELEASE = Script.load("cache_aside/release")

FIRST_STEP, LONGEST_STEP = 0.005, 0.25
MAX_JITTER = 0.999


@dataclass(frozen=True, slots=True)
class CacheAside:
    """A cache in front of a loader. Times are in seconds.

    * ``ttl``: a value is served at most this long.
    * ``jitter``: the largest share of its life that an entry loses at random, 0 to ``MAX_JITTER``.
    * ``negative_ttl``: the ``ttl`` of ``None``; by default the shorter of 30 s and ``ttl``.
    * ``early``: the β of "Optimal Probabilistic Cache Stampede Prevention" (XFetch; Vattani,
      Chierichetti and Lowenstein, VLDB 2015): an entry is renewed when −β·(load time)·ln(u)
      exceeds the rest of its life; each read draws its own u. Larger is earlier; 0 is never.
    * ``lease``: one caller may load this long. Choose it longer than nearly every load.
    * ``random``: draws from [0, 1) for jitter and early renewal.

    Raises :class:`~kvlab.errors.InvalidArgument` for a value out of range.
    """

    name: str
    ttl: float
    jitter: float = 0.1
    negative_ttl: float | None = None
    early: float = 1.0
    lease: float = 10.0
    random: Callable[[], float] = field(default=random.random, repr=False, compare=False)

    # computed once, at construction
    _before_key: str = field(init=False, repr=False, compare=False)
    _lease_ms: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        absent, name = self.negative_ttl, checks.text("name", self.name)
        checks.keep(
            self,
            name=name,
            ttl=checks.seconds("ttl", self.ttl),
            jitter=checks.real("jitter", self.jitter, 0, MAX_JITTER),
            negative_ttl=None if absent is None else checks.seconds("negative_ttl", absent),
            early=checks.real("early", self.early, 0, 1e6),
            lease=checks.seconds("lease", self.lease),
            random=checks.function("random", self.random),
            _before_key=f"cache:{segment(name)}:{{",
        )
        checks.keep(self, _lease_ms=milliseconds(self.lease))

    def key(self, key: Id, what: str) -> Key:
        """The key of an ``entry``, its ``lease`` or its ``version``."""
        return Key(f"{self._before_key}{segment(key)}}}:{what}")

    def read(self, key: Id, *, unreadable: bytes | None = None) -> Op[Lookup]:
        """Read the entry; on a miss take the lease if it is free.

        The op stands for one attempt of one caller: when the op is run again, it finds its own
        lease while that lease lives, so a lost answer does no harm. Make a new op for each
        attempt.
        """
        if unreadable is not None:
            checks.instance("unreadable", unreadable, bytes, "bytes or None")
        return self._read(key, secrets.token_hex(16), unreadable)

    def _read(self, key: Id, nonce: str, unreadable: bytes | None) -> Op[Lookup]:
        ahead = -self.early * math.log1p(-self.random())
        return Op(
            READ,
            self.key(key, "entry"),
            self.key(key, "lease"),
            nonce,
            self._lease_ms,
            f"{ahead:.17g}",
            *(() if unreadable is None else (unreadable,)),
            decode=decode_lookup,
            idempotent=True,
        )

    def fill(self, key: Id, lease: str, value: Any, *, version: int | None = None) -> Op[Fill]:
        """Store a value that was loaded under ``lease``; the fill ends the lease.

        ``version``: the version of the row, if known; see :mod:`kvlab.write_through`. Raises
        :class:`~kvlab.errors.NotJson` at once for a value that JSON would not give back.
        """
        life = self.life(value)
        return Op(
            FILL,
            *(self.key(key, what) for what in ("entry", "lease", "version")),
            checks.text("lease", lease, None),
            encoded(value),
            life,
            max(life, self._lease_ms),
            "" if version is None else checks.whole("version", version, 0, MAX_EXACT),
            decode=decode_fill,
            idempotent=True,
        )

    def release(self, key: Id, lease: str) -> Op[None]:
        """Give the lease back without a value: the next caller loads."""
        checks.text("lease", lease, None)  # the empty text is the beginning of every lease
        return Op(RELEASE, self.key(key, "lease"), lease, decode=_nothing, idempotent=True)

    def invalidate(self, key: Id) -> Op[None]:
        """Remove the value, and make the fill of every load under way fail.

        Run it after the database has committed. When the server cannot be reached, it raises as
        every op does: the old value may then be served until its TTL ends.
        """
        entry, lease = self.key(key, "entry"), self.key(key, "lease")
        return Op("DEL", entry, lease, decode=_nothing, idempotent=True)

    def fetch(self, key: Id, load: Load[T]) -> Flow[T]:
        """The cached value, or the result of ``load()`` (None: no such row).

        Raises what ``load`` raises, :class:`~kvlab.errors.NotJson` for a value that is not JSON,
        and :class:`~kvlab.errors.LoadsItself` for a loader that fetches its own key. When the load
        of an early renewal fails, the value that is still fresh is returned.
        """
        return self.fetching(key, load, _without_version)

    def fetching(
        self, key: Id, load: Load[Any], split: Callable[[Any], tuple[T, int | None]]
    ) -> Flow[T]:
        """The flow of ``fetch``; ``split`` makes value and version of a loader's result."""
        return self._fetching(checks.id_text("key", key), checks.function("load", load), split)

    @flow
    def _fetching(self, key: str, load: Load[Any], split: Any) -> Steps[Any]:
        waiter: Waiter | None = None
        nonce, unreadable = secrets.token_hex(16), None
        step, since = FIRST_STEP, None
        try:
            while (found := (yield from self._look(key, nonce, unreadable))) is not None:
                if waiter is not None and waiter.failure is not None and not found.hit:
                    raise (yield from self._shared(key, found, waiter.failure))
                if found.lease is not None:
                    return (yield from self._lead(key, found, load, split))
                if found.hit:
                    return found.value
                if found.unreadable is not None:
                    unreadable = found.unreadable
                    continue
                now = yield from Now()
                since = now if since is None else since
                if now - since >= 2 * self.lease:
                    break
                waiter = waiter or (yield from Waiting(self.key(key, "entry").name))
                yield from Wait(min(step, found.wait))
                step = min(step * 1.5, LONGEST_STEP)
        except (Exception, GeneratorExit):
            raise  # who had a lease has given it back; after the latter nothing can run
        except BaseException as problem:  # interrupted, wherever it was: it may have a lease
            yield from self._give_back(key, nonce, problem)
            raise
        finally:
            if waiter is not None:
                waiter.leave()
        # As JSON, so that no caller sees what another caller does to its value.
        # A loader that returns the version answers another question than one that does not.
        name = self.key(key, "entry" if split is _without_version else "version").name
        call = Call(load, name=name, join=True, then=lambda loaded: encoded(split(loaded)[0]))
        return decoded((yield from call))

    def _look(self, key: Id, nonce: str, unreadable: bytes | None) -> Steps[Lookup | None]:
        """What a read finds; None when the server cannot answer."""
        try:
            return (yield from self._read(key, nonce, unreadable))
        except Outage:
            return None
        except Exception as problem:  # the answer may have been a lease
            yield from self._give_back(key, nonce, problem)
            raise

    def _shared(self, key: Id, found: Lookup, failure: Exception) -> Steps[Exception]:
        """The error of the load that this caller has waited for; it gives back what it found."""
        if found.lease is not None:
            yield from self._give_back(key, found.lease, failure)
        return failure

    def _lead(
        self,
        key: str,
        found: Lookup,
        load: Load[Any],
        split: Callable[[Any], tuple[T, int | None]],
    ) -> Steps[T]:
        assert found.lease is not None
        try:
            # Not shared: a call that began under an earlier lease may have read an older row.
            loaded: Any = yield from Call(load, name=self.key(key, "entry").name)
        except Exception as problem:
            yield from self._give_back(key, found.lease, problem)
            if not found.hit:
                raise
            old: T = found.value
            return old
        try:
            value, version = split(loaded)
            filling = self.fill(key, found.lease, value, version=version)
            try:
                yield from filling
            except CannotServe as refused:  # out of memory, for example: to give back needs none
                yield from self._give_back(key, found.lease, refused)
            except Outage:
                pass  # the lease cannot be given back either
        except Exception as problem:
            yield from self._give_back(key, found.lease, problem)
            raise
        return value

    def _give_back(self, key: Id, lease: str, problem: BaseException) -> Steps[None]:
        try:
            yield from insist(self.release(key, lease))
        except KvlabError as failure:
            what = f"cache {self.name!r:.80}: the lease of {key!r:.80} may stay {self.lease:g} s"
            left_behind(problem, f"{what}: {failure}")

    def life(self, value: Any) -> int:
        """The life of an entry of this value in ms, with its jitter drawn."""
        longest = self.ttl if value is not None else self._negative_ttl
        return milliseconds(longest * (1 - self.jitter * self.random()))

    @property
    def _negative_ttl(self) -> float:
        return min(self.ttl, 30.0) if self.negative_ttl is None else self.negative_ttl


def _nothing(_: Raw) -> None:
    return None


def _without_version(loaded: T) -> tuple[T, None]:
    return loaded, None
