"""The writer: the database commits first, then the row goes into the cache."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kvlab.cache_aside import CacheAside
from kvlab.cache_aside.cache import Steps
from kvlab.core import checks
from kvlab.core.checks import MAX_EXACT, Id
from kvlab.core.flow import Call, Flow, flow
from kvlab.core.json_values import encoded
from kvlab.core.op import Op, Script, milliseconds
from kvlab.errors import (
    CannotServe,
    InvalidArgument,
    KvlabError,
    Outage,
    ServerRefused,
)

T = TypeVar("T")
Row = tuple[T, int] | None
Write = Callable[[], "Row[T] | Awaitable[Row[T]]"]
Delete = Callable[[], "int | Awaitable[int | None] | None"]

STORE = Script.load("write_through/store")


@dataclass(frozen=True, slots=True)
class Saved(Generic[T]):
    """The database has committed. ``row`` and ``version`` are None if there was no row to change.

    ``cached``: the cache held this row when it answered. Otherwise there was no row, a newer
    version was there before, or the cache could not serve, and ``error`` says why.
    """

    row: T | None
    version: int | None
    cached: bool
    error: KvlabError | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """The database has committed. ``version``: of the deletion; None if there was no row.

    ``cached``: the cache held the absence when it answered; otherwise as in :class:`Saved`.
    """

    version: int | None
    cached: bool
    error: KvlabError | None = None


@dataclass(frozen=True, slots=True)
class WriteThrough:
    """Writes for the readers of ``cache``, with the keys, format and TTLs of ``cache``.

    ``remember``: the version of the newest write stays known for at least this many seconds; at
    least ``cache.lease``, by default the longer of ``cache.ttl`` and ``cache.lease``.
    """

    cache: CacheAside
    remember: float | None = None

    def __post_init__(self) -> None:
        checks.instance("cache", self.cache, CacheAside, "a CacheAside")
        if self.remember is not None:
            checks.keep(self, remember=checks.seconds("remember", self.remember, self.cache.lease))

    def save(self, key: Id, write: Write[T]) -> Flow[Saved[T]]:
        """Run ``write()``, which commits and returns (row, version); then store the row.

        ``write`` may return None: there was no row to change. The cached row is then removed.
        Raises what ``write`` raises. A mistake in the program is raised with a note that the
        database has committed, after the cached row was removed: InvalidArgument or NotJson for a
        result that cannot be stored (not a pair, a version out of 0 ≤ version < 2**53, a row that
        is not JSON), :class:`~kvlab.errors.ServerRefused` when the server refuses for good.
        """
        return self._save(checks.id_text("key", key), checks.function("write", write))

    @flow
    def _save(self, key: str, write: Write[T]) -> Steps[Saved[T]]:
        written: Row[T] = yield from self._write(key, write)
        if written is None:
            _, error = yield from self._tell(key, self.cache.invalidate(key))
            return Saved(None, None, False, error)
        try:
            row, version = _pair(written)
            storing = self._store(key, row, version)
        except KvlabError as problem:
            raise (yield from self._unusable(key, problem)) from None
        cached, error = yield from self._tell(key, storing)
        return Saved(row, version, cached, error)

    def remove(self, key: Id, delete: Delete) -> Flow[Removed]:
        """Run ``delete()``, which commits and returns the deletion's version; store the absence.

        ``delete`` may return None: there was no row. Errors as for ``save``.
        """
        return self._remove(checks.id_text("key", key), checks.function("delete", delete))

    @flow
    def _remove(self, key: str, delete: Delete) -> Steps[Removed]:
        version: int | None = yield from self._write(key, delete)
        if version is None:
            _, error = yield from self._tell(key, self.cache.invalidate(key))
            return Removed(None, False, error)
        try:
            storing = self._store(key, None, version)
        except KvlabError as problem:
            raise (yield from self._unusable(key, problem)) from None
        cached, error = yield from self._tell(key, storing)
        return Removed(version, cached, error)

    def fetch(self, key: Id, load: Write[T]) -> Flow[T | None]:
        """``CacheAside.fetch`` with a loader that returns (row, version), or None for no row.

        The fill carries the version. A row older than the newest known version, such as a row of
        a lagging replica, is returned and not cached.
        """
        return self.cache.fetching(key, load, _row_and_version)

    def _store(self, key: str, row: Any, version: int) -> Op[bool]:
        life = self.cache.life(row)
        remember = self.remember or max(self.cache.ttl, self.cache.lease)
        return Op(
            STORE,
            *(self.cache.key(key, what) for what in ("entry", "lease", "version")),
            checks.whole("version", version, 0, MAX_EXACT),
            encoded(row),
            life,
            max(life, milliseconds(remember)),
            decode=bool,
            idempotent=True,
        )

    def _write(self, key: str, write: Callable[[], Any]) -> Steps[Any]:
        try:
            return (yield from Call(write))
        except (Exception, GeneratorExit):
            raise
        except BaseException:  # cancelled: the database may have committed
            yield from self._forget(key)
            raise

    def _tell(self, key: str, storing: Op[Any]) -> Steps[tuple[bool, KvlabError | None]]:
        try:
            return (yield from storing), None
        except CannotServe as error:  # out of memory, for example: a removal needs none
            yield from self._forget(key)
            return False, error
        except Outage as error:
            return False, error
        except ServerRefused as problem:
            raise (yield from self._unusable(key, problem)) from problem.__cause__
        except GeneratorExit:
            raise
        except BaseException:  # cancelled; the row is committed
            with contextlib.suppress(KvlabError):
                yield from storing
            raise

    def _forget(self, key: str) -> Steps[None]:
        with contextlib.suppress(KvlabError):
            yield from self.cache.invalidate(key)

    def _unusable(self, key: str, problem: KvlabError) -> Steps[KvlabError]:
        yield from self._forget(key)
        problem.add_note("the database has committed; the cache was asked to remove the row")
        return problem


def _pair(written: Any) -> tuple[Any, int]:
    if not isinstance(written, tuple) or len(written) != 2:
        said = checks.shown(written)
        raise InvalidArgument(f"write must return (row, version) or None, not {said}")
    return written[0], checks.whole("version", written[1], 0, MAX_EXACT)


def _row_and_version(loaded: Any) -> tuple[Any, int | None]:
    return (None, None) if loaded is None else _pair(loaded)
