"""The commands of a batch of ops, and the meaning of the replies. Pure: no sockets here.

``Kv`` and ``AsyncKv`` drive an :class:`Exchange`: they send ``commands()``, give the replies to
``absorb()``, and repeat this while ops are ``pending``. So both agree on scripts, transactions,
lost replies and retries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from kvlab.core.flow import Flow
from kvlab.core.key import Key
from kvlab.core.op import Op, Raw, Script
from kvlab.errors import (
    DEMOTED,
    BatchFailed,
    CannotServe,
    InvalidArgument,
    KvlabError,
    Outage,
    OutcomeUnknown,
    ServerRefused,
    ServerUnavailable,
)

Command = tuple[Any, ...]
TransportError = ServerUnavailable | OutcomeUnknown
Answer = tuple[list[Raw], TransportError | None]
"""The replies, and the error that cut them short or None."""

_CONDEMNS = frozenset({"READONLY", "MASTERDOWN", "NOREPLICAS"})
_NONE: frozenset[int] = frozenset()


def encode(op: Op[Any], prefix: str, *, with_source: bool = False) -> Command:
    """The command of an op, with the prefix before its keys; all of it is text or bytes.

    hiredis ends the process when it packs a number while a signal, such as Ctrl-C, is pending.
    """
    words: list[str | bytes] = []
    keys = 0
    for arg in op.args:
        kind = type(arg)
        if kind is str or kind is bytes:
            words.append(arg)  # type: ignore[arg-type]
        elif kind is Key:
            words.append(prefix + arg.name)  # type: ignore[union-attr]
            keys += 1
        else:
            words.append(repr(arg))
    if isinstance(op.command, str):
        return (op.command, *words)
    if with_source:
        return ("EVAL", op.command.source, str(keys), *words)
    return ("EVALSHA", op.command.sha, str(keys), *words)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """What a trace hook gets after each round trip; times are monotonic, in seconds."""

    ops: tuple[Op[Any], ...]
    started: float
    seconds: float
    error: TransportError | None


class Exchange:
    """A batch of ops on its way: the ops that have no answer yet, and the results so far."""

    __slots__ = (
        "_atomic",
        "_prefix",
        "_sent",
        "_unknown_scripts",
        "condemned",
        "elsewhere",
        "ops",
        "pending",
        "results",
    )

    def __init__(self, ops: Sequence[Op[Any]], prefix: str, *, atomic: bool = False) -> None:
        self.ops = ops
        self.results: list[Any] = [None] * len(ops)
        self.pending = list(range(len(ops)))
        self.condemned: tuple[int, ...] = ()
        """The ops that the server refused as one that is no primary (any more): none has run."""
        self.elsewhere = False
        """Whether condemned ops are, or were, retried on a new connection."""
        self._prefix = prefix
        self._atomic = atomic
        self._unknown_scripts: frozenset[int] = _NONE
        self._sent: frozenset[int] = _NONE

    def commands(self) -> list[Command]:
        """The commands to send now, in one round trip."""
        commands = [
            encode(
                self.ops[i],
                self._prefix,
                # In MULTI a missing script would leave its neighbours applied without it.
                with_source=self._atomic or i in self._unknown_scripts,
            )
            for i in self.pending
        ]
        return [("MULTI",), *commands, ("EXEC",)] if self._atomic else commands

    def absorb(
        self, replies: list[Raw], error: TransportError | None, unsent_again: bool = False
    ) -> None:
        """Take the replies; there are fewer replies than commands when ``error`` cut them short.

        ``unsent_again``: an op that could not be sent is pending again, unless it blocks: what it
        would wait for may have happened by the time it can be sent.
        """
        if self._atomic:
            replies = self._open_transaction(replies, error)
        waiting, self.pending = self.pending, []
        for i, reply in zip(waiting, replies, strict=False):
            self._settle(i, reply)
        if self._atomic and any(isinstance(r, OutcomeUnknown) for r in self.results):
            self.condemned = ()  # MULTI was refused, and an op ran by itself
        if error is not None:
            self._lose(waiting[len(replies) :], error, unsent_again)

    def retry_elsewhere(self) -> None:
        """Make the condemned ops pending again; a transaction as a whole."""
        self.elsewhere = True
        again = range(len(self.ops)) if self._atomic else self.condemned
        self.pending = sorted({*self.pending, *again})
        self.condemned = ()

    def _lose(self, unanswered: list[int], error: TransportError, unsent_again: bool) -> None:
        if isinstance(error, OutcomeUnknown):
            self._sent = self._sent.union(unanswered)
        again = [i for i in unanswered if self._may_go_again(i, unsent_again)]
        if self._atomic and len(again) < len(unanswered):
            again = []  # a transaction is retried as a whole or not at all
        self.pending += again
        for i in unanswered:
            self.results[i] = error

    def _may_go_again(self, i: int, unsent_again: bool) -> bool:
        if i in self._sent:
            return self.ops[i].idempotent
        return unsent_again and self.ops[i].blocking is None

    def refuse(self, refused: KvlabError) -> None:
        """No pending op was sent; an op that was sent before and lost stays unknown."""
        for i in self.pending:
            if i not in self._sent:
                self.results[i] = refused
        self.pending = []

    def _settle(self, i: int, reply: Raw) -> None:
        if isinstance(reply, NoScriptError) and self._may_load(i):
            self._unknown_scripts |= {i}
            self.pending.append(i)
            self.results[i] = ServerUnavailable("the script was not loaded, so it has not run")
            return
        if isinstance(reply, Exception):
            self.results[i] = refused = refusal(reply)
            if condemns(refused):
                self.condemned += (i,)
        else:
            self.results[i] = outcome(self.ops[i].decode, reply)

    def _may_load(self, i: int) -> bool:
        return isinstance(self.ops[i].command, Script) and i not in self._unknown_scripts

    def _open_transaction(self, replies: list[Raw], error: TransportError | None) -> list[Raw]:
        if error is not None:
            return []
        opened, queued, executed = replies[0], replies[1:-1], replies[-1]
        if isinstance(executed, list):
            return executed
        cause = next((r for r in queued if isinstance(r, Exception)), executed)
        fate: KvlabError = ServerRefused(f"EXECABORT not executed because of: {reply_text(cause)}")
        if isinstance(opened, Exception):  # what followed ran by itself
            fate = OutcomeUnknown(f"ran one by one, MULTI was refused: {opened}")
        return [r if isinstance(r, Exception) else fate for r in queued]

    def finished(self) -> list[Any]:
        """The results, with the fallbacks of the ops that have one."""
        for i, result in enumerate(self.results):
            if isinstance(result, Outage):
                # An op that was sent once, and whose retry was not served, is unknown.
                if i in self._sent and not isinstance(result, OutcomeUnknown):
                    result = OutcomeUnknown(f"sent, but no answer came; the retry: {result}")
                self.results[i] = fallen_back(self.ops[i], result)
        return self.results


def outcome(function: Callable[[Any], Any], argument: Any) -> Any:
    """What a decode or a fallback returns or raises, as a value: an op's neighbours go on."""
    try:
        return function(argument)
    except (GeneratorExit, StopIteration) as problem:  # a generator's end would be taken for ours
        error = RuntimeError(f"{function!r:.80} raised {type(problem).__name__}")
        error.__cause__ = problem
        return error
    except BaseException as problem:
        return problem


def fallen_back(op: Op[Any], problem: Outage) -> Any:
    """What the fallback of an op makes of an outage, else the outage."""
    return problem if op.fallback is None else outcome(op.fallback, problem)


def refusal(error: Exception) -> KvlabError:
    """redis-py's error for an error reply, as ours."""
    if isinstance(error, KvlabError):
        return error
    refused = ServerRefused(reply_text(error))
    refused.__cause__ = error
    return refused


def condemns(refused: Exception) -> bool:
    """Whether behind the same name another server may be the primary; this one ran nothing."""
    if not isinstance(refused, ServerRefused):
        return False
    return refused.code in _CONDEMNS or str(refused).startswith(DEMOTED)


def reply_text(error: Exception) -> str:
    """The error reply in the server's words: redis-py removes the first word of some."""
    code = getattr(error, "status_code", None)
    return f"{code} {error}" if code else str(error)


def checked_ops(ops: Sequence[Any], *, atomic: bool) -> Sequence[Op[Any]]:
    """The ops, or an error for what cannot travel in a batch."""
    for op in ops:
        if isinstance(op, Flow):
            raise InvalidArgument(f"a flow takes several round trips; run it alone: {op}")
        if not isinstance(op, Op):
            raise InvalidArgument(f"each item of a batch must be an op, not {op!r:.80}")
        if op.blocking is not None and (atomic or len(ops) > 1):
            raise InvalidArgument(f"a blocking op would delay its batch; run it alone: {op}")
    return ops


def delivered(results: list[Any], *, return_exceptions: bool) -> list[Any]:
    """The results of a batch; without ``return_exceptions`` the error of a batch that failed.

    An interrupt out of a decode (KeyboardInterrupt, SystemExit …) is raised in any case.
    """
    failed = [r for r in results if isinstance(r, BaseException)]
    for problem in failed:
        if not isinstance(problem, Exception):
            raise problem
    if failed and not return_exceptions:
        if all(isinstance(r, ServerUnavailable | CannotServe) for r in results):
            raise failed[0]  # nothing ran
        raise BatchFailed(results)
    return results


def transport_error(error: Exception, *, sent: bool, where: str) -> TransportError:
    """The error of a round trip that has no answer."""
    kind = type(error).__name__
    said = f"{kind}: {error}" if isinstance(error, RedisConnectionError) else str(error) or kind
    if sent:
        return OutcomeUnknown(f"sent to {where}, but no answer came: {said}")
    return ServerUnavailable(f"no connection to {where}, nothing was sent: {said}")
