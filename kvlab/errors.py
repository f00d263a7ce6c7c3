"""One base error, and one class for each cause. Subclasses carry the facts."""

from __future__ import annotations

import pickle
import re
from typing import Any

import redis.exceptions

CANNOT_SERVE = frozenset(
    {
        "READONLY",  # a replica, perhaps a primary until now
        "OOM",  # no memory for a write
        "MISCONF",  # the disk refuses, so the server refuses writes
        "NOREPLICAS",  # too few replicas for a write
        "MASTERDOWN",  # a replica without its primary
        "LOADING",  # the server starts
        "BUSY",  # a script runs too long
        "CLUSTERDOWN",  # a part of the cluster is missing
        "TRYAGAIN",  # the keys of a slot are moving
        "TOOMANYREQUESTS",  # HTTP 429 of a store behind HTTPS
    }
)
"""The codes of a server that refuses for now. Every other refusal is for good."""
DEMOTED = "UNBLOCKED force unblock"
"""What a blocked client hears from a primary that has become a replica: it is for now too.

The same code, UNBLOCKED, answers CLIENT UNBLOCK.
"""
_FULL = "ERR max number of clients"
"""What a connection beyond ``maxclients`` hears, to its first command: nothing has run."""

# Redis 6.2 puts the error of a script's command behind the place in the script:
# "ERR Error running script (call to f_<sha>): @user_script:7: @user_script: 7: -OOM command …"
_WORD = re.compile(
    r"(?:ERR Error running script \(call to \w+\): )?(?:@user_script: ?\d+: )*-?([A-Z][A-Z0-9]+)\b"
)
_ABORTED = re.compile(rf"EXECABORT .*because of: -?({'|'.join(sorted(CANNOT_SERVE))})\b")


def code_of(message: str) -> str:
    """The code of an error reply: of a script's error the code that its command got.

    A transaction has EXECABORT, or the code of the command that a server refused for now.
    """
    found = _ABORTED.match(message) or _WORD.match(message)
    return "ERR" if found is None else found[1]


class KvlabError(Exception):
    """Base of every error that kvlab raises on purpose.

    pickle and copy keep the message, the facts, the notes and the ``__cause__``. An error inside
    that cannot travel arrives as a ``KvlabError`` with its text.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (type(self), self.args, _sent(self.__dict__), _sent(self.__cause__))


class InvalidArgument(KvlabError, ValueError):
    """An argument was refused before anything was sent. The text has the value and its range."""


class NotRunYet(KvlabError, TypeError):
    """An op or a flow was used as if it were its result."""


class Closed(KvlabError):
    """An executor was used after its ``close()``. Nothing was sent."""


class Outage(KvlabError):
    """The server does not answer now: it is silent, or it refuses for now.

    What a pattern declares for an outage covers every subclass. Base of
    :class:`ServerUnavailable`, :class:`OutcomeUnknown` and :class:`CannotServe`.
    """


class ServerUnavailable(Outage):
    """The server could not be reached. Nothing was sent, so nothing happened."""


class OutcomeUnknown(Outage):
    """The command was sent, and no answer came. The command may or may not have run."""


class AnswerTooLarge(OutcomeUnknown, redis.exceptions.ResponseError):
    """The answer of a store behind HTTP is larger than is read or sent; see ``kvlab.rest``."""


class ServerRefused(KvlabError, redis.exceptions.ResponseError):
    """The server answered with an error; ``code`` is the server's word (NOAUTH, OOM, WRONGTYPE …).

    The command had no effect, unless a script failed halfway, or this is the refusal of a retry and
    the first attempt lost its answer. It is also redis-py's ``ResponseError``, so that existing
    handlers keep working. With a code of ``CANNOT_SERVE`` it is a :class:`CannotServe`, however it
    is made. ``retry_after``: the seconds that a store behind HTTP asks to wait, 0.0 when the store
    does not say.
    """

    retry_after = 0.0

    def __new__(cls, message: str) -> ServerRefused:
        for_now = code_of(message) in CANNOT_SERVE or message.startswith((DEMOTED, _FULL))
        return super().__new__(CannotServe if cls is ServerRefused and for_now else cls, message)

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = code_of(message)

    __repr__ = Exception.__repr__


class CannotServe(ServerRefused, Outage):
    """The server refused for now: ``code`` is one of ``CANNOT_SERVE``. It may serve later.

    Two such refusals have codes that others have too: a demoted primary's UNBLOCKED to a client
    that waits, and ERR to a connection beyond ``maxclients``.
    """


class NotOverHttp(ServerRefused, InvalidArgument):
    """The op cannot travel to a store behind HTTP: nothing was sent. See ``kvlab.rest``.

    It waits, listens or changes its connection, and HTTP has none that stays open; or an argument
    is not UTF-8.
    """


class BatchFailed(KvlabError):
    """At least one op of a batch failed.

    ``results`` has one item for each op, in order: the decoded value, or the error of that op.
    """

    def __init__(self, results: list[object]) -> None:
        self.results = results
        failed = [(i, r) for i, r in enumerate(results) if isinstance(r, BaseException)]
        index, first = failed[0]
        super().__init__(
            f"{len(failed)} of {len(results)} ops failed; the first is op {index}: "
            f"{type(first).__name__}: {first}"
        )


class RemoteNotAllowed(KvlabError):
    """A server that is not on loopback needs an explicit permission."""


class MissingExtra(KvlabError, ImportError):
    """A part of the workbook needs a package that ``kvlab`` alone does not install."""

    def __init__(self, package: str, purpose: str, extra: str = "lab") -> None:
        self.package, self.purpose, self.extra = package, purpose, extra
        super().__init__(f'{purpose} needs {package}: pip install "kvlab[{extra}]"')


class LoadsItself(KvlabError, RecursionError):
    """A loader fetches the key that it loads: it would wait for itself. ``name``: of the key."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the loader of {name!r:.200} fetches the same key: it waits for itself")


class NotJson(KvlabError, TypeError):
    """A value that JSON cannot carry, or would change. Nothing was stored."""


class SessionTooLarge(InvalidArgument):
    """A session's data would be ``size`` bytes, more than its ``limit``. Nothing was written."""

    def __init__(self, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(f"session data must be at most {limit} bytes of JSON, not {size}")


class LockNotAcquired(KvlabError, TimeoutError):
    """The lock was not free within the wait. The body did not start."""

    def __init__(self, name: str, wait: float) -> None:
        self.name, self.wait = name, wait
        super().__init__(f"lock {name!r:.80} was not free within {wait:g} s; the body did not run")


class LockLost(KvlabError):
    """The lock may have another holder by now. It does not protect what was written since."""

    def __init__(self, name: str, fence: int, how: str) -> None:
        self.name, self.fence, self.how = name, fence, how
        super().__init__(f"lock {name!r:.80} (fence {fence}) is lost: {how}")


class PeriodClosed(KvlabError):
    """A submission was for a period that is neither kept nor next. Nothing changed."""


class ScoreOutOfRange(KvlabError):
    """A sum would be rounded, or be beyond ±(2**53 − 1). Nothing changed; ``held`` is the score."""

    def __init__(self, message: str, held: float) -> None:
        self.held = held
        super().__init__(message)


class OpIdReused(KvlabError):
    """An ``op_id`` came again, with another submission. Nothing changed."""


class UnknownFlag(KvlabError, KeyError):
    """A feature flag is neither stored nor declared."""

    __str__ = Exception.__str__


class _Parcel:
    """An error on its way: that it can be packed does not say that it can be unpacked."""

    def __init__(self, error: BaseException) -> None:
        self.text = f"{type(error).__name__}: {error}"
        try:
            self.packed = pickle.dumps(error)
        except Exception:
            self.packed = b""

    def unpacked(self) -> Any:
        try:
            return pickle.loads(self.packed)
        except Exception:
            return KvlabError(self.text)


def _sent(fact: Any) -> Any:
    if isinstance(fact, BaseException):
        return _Parcel(fact)
    if isinstance(fact, dict):
        return {name: _sent(value) for name, value in fact.items()}
    return [_sent(value) for value in fact] if isinstance(fact, list) else fact


def _received(fact: Any) -> Any:
    if isinstance(fact, _Parcel):
        return fact.unpacked()
    if isinstance(fact, dict):
        return {name: _received(value) for name, value in fact.items()}
    return [_received(value) for value in fact] if isinstance(fact, list) else fact


def _arrived(
    kind: type[KvlabError], args: tuple[Any, ...], facts: dict[str, Any], cause: Any
) -> KvlabError:
    error = kind.__new__(kind, *args)
    # Not by the error's own __init__: it takes the facts, and args is the message made of them.
    super(KvlabError, error).__init__(*args)
    error.__dict__.update(_received(facts))
    if cause is not None:
        error.__cause__ = _received(cause)
    return error
