"""A batch on a cluster: one round trip to each node, all at the same time.

* Each op goes to the node of its slot (``slots``); an op without keys to any node.
* MOVED and ASK mean "not executed": the op is sent to the node that they name, at most
  ``FOLLOWED`` times. TRYAGAIN and CLUSTERDOWN mean the same: the op is retried until ``deadline``,
  which counts from the first such answer for the slot.
* A node that fails, fails its own ops alone. Their slots are then asked for, and idempotent ops are
  retried within ``deadline``, also when nothing was sent: a replica may take over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import AskError, ClusterDownError, MasterDownError, MovedError, TryAgainError

from kvlab.core.executors.cluster import Cluster
from kvlab.core.executors.requests import PAUSE, Address, Running, Trip, Trips
from kvlab.core.executors.slots import slot_of_key, slots_of
from kvlab.core.flow import Wait
from kvlab.core.key import Key
from kvlab.core.op import Op, Raw
from kvlab.core.settings import Settings
from kvlab.core.wire import Command, Exchange, TransportError, refusal
from kvlab.errors import Outage, ServerRefused, ServerUnavailable

FOLLOWED = 8
"""How often one op is sent on from node to node."""
_ASK_SLOTS: Op[Any] = Op("CLUSTER SLOTS", idempotent=True)


class _Place(NamedTuple):
    """Where ops go; ``asking``: the slot is still moving there."""

    at: Address
    asking: bool


class _Routed(Exchange):
    """An exchange of which ops may be sent on: ``redirects`` has the replies that say so."""

    __slots__ = ("redirects",)

    def __init__(self, ops: Sequence[Op[Any]], prefix: str, *, atomic: bool) -> None:
        super().__init__(ops, prefix, atomic=atomic)
        self.redirects: dict[int, Any] = {}

    def commands_to(self, place: _Place, group: list[int]) -> list[Command]:
        """The commands of some pending ops."""
        self.pending = group
        commands = self.commands()
        if not place.asking:
            return commands
        if self._atomic:  # a MULTI keeps what ASKING said
            return [("ASKING",), *commands]
        return [part for command in commands for part in (("ASKING",), command)]

    def absorb_from(
        self, place: _Place, group: list[int], replies: list[Raw], error: TransportError | None
    ) -> list[int]:
        """Take the replies to :meth:`commands_to`; the ops that are pending again."""
        if place.asking:
            replies = replies[1:] if self._atomic else replies[1::2]
        self.pending = group
        self.absorb(replies, error, unsent_again=True)
        return self.pending

    def _settle(self, i: int, reply: Raw) -> None:
        if _is_redirect(reply):
            self.redirects[i], self.results[i] = reply, refusal(reply)
            self.pending.append(i)
        else:
            super()._settle(i, reply)

    def _open_transaction(self, replies: list[Raw], error: TransportError | None) -> list[Raw]:
        opened = error is None and not isinstance(replies[0], Exception)
        if opened and (redirect := next(filter(_is_redirect, replies), None)):
            return [redirect] * (len(replies) - 2)  # nothing of it ran
        return super()._open_transaction(replies, error)


def _is_redirect(reply: Raw) -> bool:
    if isinstance(reply, MasterDownError):
        return False
    return isinstance(reply, AskError | TryAgainError | ClusterDownError)


class _Journey:
    """Where the ops of one exchange go next."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        exchange: _Routed,
        slots: list[int | None],
        at: Address | None,
    ) -> None:
        self._cluster, self._settings, self._exchange = cluster, settings, exchange
        self._slots, self._at = slots, at
        self._began = settings.clock()
        self._asking: dict[int, Address] = {}
        self._sent_on: dict[int, int] = {}
        self.waits = False
        """Whether the ops that go on should wait for a moment."""

    def groups(self) -> list[tuple[_Place, list[int]]]:
        """The pending ops by node; in one order for all threads, which so wait in no circle."""
        cluster, slots, pending = self._cluster, self._slots, self._exchange.pending
        some = next((slots[i] for i in pending if slots[i] is not None), None)
        anywhere = self._at or cluster.home(some)
        found: dict[_Place, list[int]] = {}
        for i in pending:
            asked = self._asking.pop(i, None)
            home = anywhere if slots[i] is None else cluster.home(slots[i])
            found.setdefault(_Place(asked or home, asked is not None), []).append(i)
        return sorted(found.items())

    def take(self, groups: list[tuple[_Place, list[int]]], answers: list[Any]) -> list[int]:
        """Take the answers of the groups; the ops that go on."""
        exchange, again = self._exchange, list[int]()
        self.waits = False
        for (place, group), answer in zip(groups, answers, strict=True):
            if isinstance(answer, ServerRefused):  # the connection itself
                exchange.pending = group
                exchange.refuse(answer)
                continue
            replies, error = answer
            pending = exchange.absorb_from(place, group, replies, error)
            if error is not None:
                self._cluster.stale = True
            if self._cluster.refusing:
                self._served(i for i in group if i not in exchange.redirects and i not in pending)
            again += [i for i in pending if self._goes_on(i, place, error)]
        return sorted(again)

    def give_up(self, problem: TransportError | ServerRefused) -> None:
        """No pending op is sent: no node says where."""
        if isinstance(problem, ServerRefused):
            self._exchange.refuse(problem)
        else:
            self._exchange.absorb([], problem)
            self._exchange.pending = []

    def _served(self, answered: Iterable[int]) -> None:
        for i in answered:
            if not isinstance(self._exchange.results[i], Outage):
                for key in (None, self._slots[i]):
                    self._cluster.refusing.pop(key, None)

    def _goes_on(self, i: int, place: _Place, error: TransportError | None) -> bool:
        reply = self._exchange.redirects.pop(i, None)
        if isinstance(reply, AskError):
            return self._follows(i, place, reply)
        if reply is None and error is None:
            return True  # a script that the node does not know yet
        self.waits = self._cluster.stale = True
        self._sent_on.pop(i, None)
        began, now = self._began, self._settings.clock()
        if reply is not None:
            whole = isinstance(reply, ClusterDownError) and "slot" not in str(reply)
            key = None if whole else self._slots[i]
            began = min(began, self._cluster.refusing.setdefault(key, now))
        elif (outage := self._cluster.health(place.at).outage) is not None:
            if now < outage.next_try:
                return False
            began = min(began, outage.since)
        return now - began + PAUSE < self._settings.deadline

    def _follows(self, i: int, place: _Place, reply: AskError) -> bool:
        self._sent_on[i] = times = self._sent_on.get(i, 0) + 1
        if times > FOLLOWED:
            said = f"sent on {FOLLOWED} times from node to node, and run by none"
            self._exchange.results[i] = ServerUnavailable(said)
            return False
        self.waits = self.waits or times > 2  # the nodes do not agree yet
        target = self._cluster.moved(reply, place.at)
        if isinstance(reply, MovedError):
            self._slots[i] = reply.slot_id
            self._cluster.keep(reply.slot_id, target)
        else:
            self._asking[i] = target
        return True


class Router:
    """Sends ops to the nodes of a cluster."""

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self.cluster, self._settings = cluster, settings

    def place(self, op: Op[Any]) -> Address:
        """The node of the op, as far as the executor knows."""
        (slot,) = slots_of([op], str(self._settings.prefix), atomic=False)
        return self.cluster.home(slot)

    def nodes_for(self, key: Key) -> list[Address]:
        """All nodes; that of the key first, and those that do not answer last."""
        home = self.cluster.home(slot_of_key(key, str(self._settings.prefix)))
        return [*dict.fromkeys([home, *self.cluster.to_ask()])]

    def exchange(
        self, ops: Sequence[Op[Any]], atomic: bool = False, at: Address | None = None
    ) -> Running[Exchange]:
        """Run the ops; ``at``: on this node, though their keys are not known.

        Raises :class:`~kvlab.errors.InvalidArgument`, before anything is sent, for keys that must
        lie in one slot and do not.
        """
        prefix = str(self._settings.prefix)
        slots: list[int | None] = [None] * len(ops) if at else slots_of(ops, prefix, atomic=atomic)
        exchange = _Routed(ops, prefix, atomic=atomic)
        journey = _Journey(self.cluster, self._settings, exchange, slots, at)
        while exchange.pending:
            if self.cluster.is_due() and (problem := (yield from self._ask_slots())):
                journey.give_up(problem)
                break
            groups = journey.groups()
            blocking = ops[0].blocking if len(ops) == 1 else None
            trips = [
                Trip(
                    [ops[i] for i in group], exchange.commands_to(place, group), blocking, place.at
                )
                for place, group in groups
            ]
            answers = yield Trips(trips)
            exchange.pending = journey.take(groups, answers)
            if exchange.pending and journey.waits:
                yield Wait(PAUSE)
        return exchange

    def known(self) -> Running[None]:
        """Ask for the slots, if no node has said them yet."""
        if not self.cluster.primaries() and (problem := (yield from self._ask_slots())):
            raise problem

    def _ask_slots(self) -> Running[TransportError | ServerRefused | None]:
        """Ask the nodes, one after the other, for the slots; the error when none answers."""
        problem: Any = None
        for address in self.cluster.to_ask():
            (answer,) = yield Trips([Trip([_ASK_SLOTS], [("CLUSTER SLOTS",)], None, address)])
            if isinstance(answer, ServerRefused):
                problem = answer
                continue
            (replies, error) = answer
            if error is None and not isinstance(replies[0], Exception):
                self.cluster.learn(replies[0], address)
                return None
            problem = error or refusal(replies[0])
        return problem if isinstance(problem, ServerRefused) else ServerUnavailable(str(problem))
