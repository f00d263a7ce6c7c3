"""One call of ``AutoBatch.run`` while it shares a batch: its ops, its replies, its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvlab.core.op import Op
from kvlab.core.transport.health import Health
from kvlab.core.wire import Command, Exchange, TransportError, encode, outcome
from kvlab.errors import ServerRefused


@dataclass(slots=True, eq=False)
class BatchedCall:
    """The ops of one call, and the future on which the caller waits.

    A call of a ``single`` op is answered with the op's result, or with its error as a value. Such
    a call has an exchange only when its first reply does not settle it. A call of several ops is
    answered with its exchange.
    """

    ops: Sequence[Op[Any]]
    prefix: str
    single: bool
    began: float
    answered: asyncio.Future[Any]
    health: Health
    exchange: Exchange | None = None

    @property
    def pending(self) -> Sequence[Op[Any]]:
        """The ops that have no result yet."""
        if self.exchange is None:
            return self.ops
        return [self.ops[i] for i in self.exchange.pending]

    @property
    def over(self) -> bool:
        """Whether the caller has its answer, or was cancelled."""
        return self.answered.done()

    @property
    def elsewhere(self) -> bool:
        """Whether the next try must have a new connection."""
        return self.exchange is not None and self.exchange.elsewhere

    def commands(self) -> list[Command]:
        """What to send now."""
        if self.exchange is None and self.single:
            return [encode(self.ops[0], self.prefix)]
        return self._exchange().commands()

    def absorb(self, replies: list[Any], cut: TransportError | None, *, retry: bool) -> None:
        """Take the replies; ``cut`` says why there are too few of them, if there are.

        Without ``retry`` the call is answered now, however many ops have no result.
        """
        if self.over:
            return
        if self.exchange is None and replies and not isinstance(replies[0], Exception):
            self.answer(outcome(self.ops[0].decode, replies[0]))
            return
        exchange = self._exchange()
        # Each caller gets an error of its own: tracebacks pile up on a shared one.
        error = None if cut is None else type(cut)(str(cut))
        exchange.absorb(replies, error, self.health.moves)
        if exchange.condemned:
            self.health.moved(exchange)
        if not (retry and exchange.pending):
            self._answer_with(exchange)

    def refuse(self, refused: ServerRefused) -> None:
        """Answer the call: the server refused the connection, and nothing was sent."""
        exchange = self._exchange()
        exchange.refuse(ServerRefused(str(refused)))
        self._answer_with(exchange)

    def answer(self, result: Any) -> None:
        """Give the caller its result, unless the caller was cancelled."""
        # Never set_exception: asyncio would complain about a caller that was cancelled just now.
        if not self.over:
            self.answered.set_result(result)

    def _exchange(self) -> Exchange:
        if self.exchange is None:
            self.exchange = Exchange(self.ops, self.prefix)
        return self.exchange

    def _answer_with(self, exchange: Exchange) -> None:
        self.answer(exchange.finished()[0] if self.single else exchange)
