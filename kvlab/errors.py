"""One base error, and one class per cause. Subclasses carry the facts."""

from __future__ import annotations

import redis.exceptions


class KvlabError(Exception):
    """Base of every error that kvlab raises on purpose."""


class InvalidArgument(KvlabError, ValueError):
    """An argument was refused before anything was sent; names the value and the allowed range."""


class NotRunYet(KvlabError, TypeError):
    """An op or a flow was used as if it were its result."""


class ServerUnavailable(KvlabError):
    """The server could not be reached. Nothing was sent, so nothing happened."""


class OutcomeUnknown(KvlabError):
    """The command was sent and no answer came. It may or may not have run."""


class ServerRefused(KvlabError, redis.exceptions.ResponseError):
    """The server answered with an error; ``code`` is its first word (NOAUTH, OOM, WRONGTYPE …).

    The command had no effect, except for a script that failed half-way. Also redis-py's
    ``ResponseError``, so existing handlers keep working.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        first = message.split(" ", 1)[0]
        self.code = first if first.isupper() else "ERR"  # redis-py strips ERR

    __repr__ = Exception.__repr__


class BatchFailed(KvlabError):
    """At least one op of a batch failed.

    ``results`` has one item per op, in order: the decoded value, or the exception of that op.
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
    """A server that is not on loopback needs an explicit yes."""


class MissingExtra(KvlabError, ImportError):
    """A part of the workbook needs a package that ``kvlab`` alone does not bring."""

    def __init__(self, package: str, purpose: str) -> None:
        self.package = package
        super().__init__(f'{purpose} needs {package}: pip install "kvlab[lab]"')


class Closed(KvlabError):
    """Used after ``close()``. Nothing was sent."""


class UnknownFlag(KvlabError, KeyError):
    """A feature flag that is neither stored nor declared."""

    __str__ = Exception.__str__
