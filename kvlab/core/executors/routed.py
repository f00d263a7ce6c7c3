"""A batch on a cluster: one round trip to each node, all at the same time.

* Each op goes to the node of its slot (``slots``); an op without keys to any node.
* MOVED and ASK mean "not executed": the op is sent to the node that they name, at most
  ``FOLLOWED`` times. The codes of ``NOT_HERE`` mean the same: the op is retried until ``deadline``,
  which counts from the first such answer of the node (TRYAGAIN: for the slot).
* A node that fails, fails its own ops alone. Their slots are then asked for, and ops are retried
  within ``deadline``: idempotent ops, and any that could not be sent. A replica may take over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import AskError, MovedError

from kvlab.core.executors.cluster import SLOTS, Cluster
from kvlab.core.executors.requests import Address, Running, Trip, Trips, growing
from kvlab.core.executors.slots import slot_of_key, slots_of
from kvlab.core.flow import Wait
from kvlab.core.key import Key
from kvlab.core.op import Op, Raw
from kvlab.core.settings import Settings
from kvlab.core.wire import Command, Exchange, TransportError, refusal, reply_text
from kvlab.errors import (
    KvlabError,
    Outage,
    RemoteNotAllowed,
    ServerRefused,
    ServerUnavailable,
    code_of,
)

FOLLOWED = 8
"""How often one op is sent on from node to node."""
NOT_HERE = frozenset({"CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN"})
"""What a node says that does not serve the op now: it has not run, and another node may run it."""
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
        if self._atomic and len(self.pending) < len(group):
            self.pending = []  # a part of it ran: no other part may run later
        return self.pending

    def refused_here(self, group: list[int], refused: ServerRefused) -> list[int]:
        """Take one refusal in place of all replies; the ops that are pending again."""
        self.pending = group
        if refused.code not in NOT_HERE:
            self.refuse(refused)
            return []
        for i in group:
            self.redirects[i] = self.results[i] = refused
        return group

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
    if not isinstance(reply, Exception):
        return False
    if isinstance(reply, AskError):
        return 0 <= reply.slot_id < SLOTS  # else it names no place
    return code_of(reply_text(reply)) in NOT_HERE


def _is_of_slot(reply: Exception) -> bool:
    """Whether the node refuses this slot alone: its keys are apart, or nobody serves it."""
    text = reply_text(reply)
    return text.startswith("TRYAGAIN") or "slot" in text.lower()


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
        self._pauses = growing()
        self._pause = next(self._pauses)
        self.waits = False
        """Whether the ops that go on should wait for a moment."""

    def next_pause(self) -> float:
        """How long they should wait, in seconds."""
        pause, self._pause = self._pause, next(self._pauses)
        return pause

    def is_late(self, began: float | None = None) -> bool:
        """Whether ``deadline`` will have passed, after the next pause too, since the journey or
        ``began``."""
        began = self._began if began is None else min(began, self._began)
        return self._settings.clock() - began + self._pause >= self._settings.deadline

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
            error = None
            if isinstance(answer, ServerRefused):  # the connection itself
                pending = exchange.refused_here(group, answer)
            elif isinstance(answer, BaseException):  # the trace hook's, or the executor is closed
                raise answer
            else:
                replies, error = answer
                pending = exchange.absorb_from(place, group, replies, error)
            if error is not None:
                self._cluster.suspects.add(place.at)
            if self._cluster.refusing:
                self._served(place.at, [i for i in group if i not in pending])
            again += [i for i in pending if self._goes_on(i, place, error)]
        return sorted(again)

    def _served(self, at: Address, answered: Iterable[int]) -> None:
        for i in answered:
            if not isinstance(self._exchange.results[i], Outage):
                self._cluster.refusing.pop(at, None)
                self._cluster.refusing.pop(self._slots[i], None)  # type: ignore[arg-type]

    def _goes_on(self, i: int, place: _Place, error: TransportError | None) -> bool:
        reply = self._exchange.redirects.pop(i, None)
        if isinstance(reply, AskError):
            return self._follows(i, place, reply)
        if reply is None and error is None:
            return True  # a script that the node does not know yet
        self.waits = True
        self._cluster.suspects.add(place.at)
        self._sent_on.pop(i, None)
        now = self._settings.clock()
        if reply is not None:
            slot = self._slots[i] if _is_of_slot(reply) else None
            who = place.at if slot is None else slot
            return not self.is_late(self._cluster.refusing.setdefault(who, now))
        outage = self._cluster.health(place.at).outage
        return not self.is_late(None if outage is None else outage.since)

    def _follows(self, i: int, place: _Place, reply: AskError) -> bool:
        self._sent_on[i] = times = self._sent_on.get(i, 0) + 1
        if times > FOLLOWED:
            said = f"sent on {FOLLOWED} times from node to node, and run by none"
            self._exchange.results[i] = ServerUnavailable(said)
            return False
        self.waits = self.waits or times > 2  # the nodes do not agree yet
        try:
            target = self._cluster.moved(reply, place.at)
        except RemoteNotAllowed as problem:
            self._exchange.results[i] = problem
            return False
        if isinstance(reply, MovedError):
            self._slots[i] = reply.slot_id
            self._cluster.keep(reply.slot_id, target, place.at)
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
            if self.cluster.is_due():
                problem = yield from self._ask_slots(journey)
                if problem is not None and not isinstance(problem, TransportError):
                    exchange.refuse(problem)
                    break  # else the map that there is has to do
            groups = journey.groups()
            blocking = ops[0].blocking if len(ops) == 1 else None
            trips = []
            for place, group in groups:
                sent, commands = [ops[i] for i in group], exchange.commands_to(place, group)
                trips.append(Trip(sent, commands, blocking, place.at))
            answers = yield Trips(trips)
            exchange.pending = journey.take(groups, answers)
            if exchange.pending and journey.waits:
                yield Wait(journey.next_pause())
        return exchange

    def known(self) -> Running[None]:
        """Ask for the slots, if no node has said them yet."""
        if not self.cluster.primaries() and (problem := (yield from self._ask_slots())):
            raise problem

    def _ask_slots(self, journey: _Journey | None = None) -> Running[KvlabError | None]:
        """Ask the nodes, one after the other, for the slots; the error when none says them."""
        problem: KvlabError = ServerUnavailable("no node of the cluster says where its slots are")
        for address in self.cluster.to_ask():
            (answer,) = yield Trips([Trip([_ASK_SLOTS], [("CLUSTER SLOTS",)], None, address)])
            if isinstance(answer, ServerRefused):
                problem = answer
                continue
            if isinstance(answer, BaseException):
                raise answer
            replies, error = answer
            if error is not None:
                problem = ServerUnavailable(str(error))
            elif isinstance(replies[0], Exception):
                problem = refusal(replies[0])
            elif replies[0]:  # a node that has forgotten the others knows no slot
                try:
                    self.cluster.learn(replies[0], address)
                except RemoteNotAllowed as remote:
                    return remote
                return None
            if journey is not None and journey.is_late():
                break
        return problem
