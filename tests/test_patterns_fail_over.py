"""What a failover does to each pattern, as its shortest run, and what rescues it in every run.

A pattern says in its "Not promised" what a failover takes. Here each of these is produced, and
beside it stands the way out. Then the same programs run on a real primary with its replica: what
happens there is one of the outcomes that the explorer has seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import kvlab
from kvlab import Kv
from kvlab.chapters.beyond_one_server.failovers import CASES, Case, Program
from kvlab.core.wire import RoundTrip
from kvlab.instruments import Failover, World, explore
from kvlab.instruments.explorer.run.steps import Step

Outcome = tuple[Any, ...]


@pytest.mark.parametrize("name", CASES)
def test_a_failover_takes_what_is_not_promised(name: str) -> None:
    case = CASES[name]
    story = explore(case.clients, setup=case.setup, invariant=case.promise, failovers=True)
    assert story.faults["failovers"] >= story.violations > 0
    assert " p1" in f" {story.schedule}"


@pytest.mark.parametrize("name", CASES)
def test_the_way_out_holds_in_every_run_and_its_control_does_not(name: str) -> None:
    case = CASES[name]
    asked: dict[str, Any] = {"setup": case.setup, "invariant": case.holds, "failovers": True}
    assert explore(case.rescued, max_faults=2, reduce=True, **asked)
    if case.control is not None:
        assert explore(case.control, reduce=True, **asked).violations


@pytest.mark.parametrize("name", CASES)
def test_without_a_failover_nothing_is_taken(name: str) -> None:
    case = CASES[name]
    assert explore(case.clients, setup=case.setup, invariant=case.promise)


@pytest.fixture(scope="module")
def pair() -> Iterator[Failover]:
    with Failover() as servers:
        yield servers


class Played:
    """Programs on the pair, one after the other. The pair is parted after so many round trips of
    theirs, and the replica is promoted after so many. ``trips``: how many there were."""

    def __init__(self, pair: Failover, case: Case, parts: int = -1, promotes: int = -1) -> None:
        self.trips = 0
        self._pair, self._case, self._parts, self._promotes = pair, case, parts, promotes

    def __call__(self, clients: tuple[Program, ...]) -> Outcome:
        self._pair.rejoin()
        with kvlab.connect(self._pair.url, prefix="real") as kv:
            kv.clear()
            if self._case.setup is not None:
                self._case.setup(kv)
            kv.client.script_flush()  # so that the round trips are the same in each run
            self._note()
            traced = Kv(kv.client, prefix=kv.prefix, trace=self._after)
            return tuple(client(traced) for client in clients)

    def _after(self, _: RoundTrip) -> None:
        self.trips += 1
        self._note()

    def _note(self) -> None:
        if self.trips == self._parts:
            self._pair.part()
        if self.trips == self._promotes:
            self._pair.promote()
            self._pair.rejoin()


def explored(clients: tuple[Program, ...], case: Case) -> set[Outcome]:
    """Every outcome that a failover can have, as the explorer says."""
    seen: set[Outcome] = set()

    def note(world: World) -> bool:
        seen.add(tuple(world.results))
        return True

    story = explore(clients, setup=case.setup, invariant=note, failovers=True, reduce=True)
    assert story.complete
    return seen


@pytest.mark.parametrize("name", CASES)
def test_a_real_failover_does_that_and_nothing_else(name: str, pair: Failover) -> None:
    """Parted and promoted at every two points: the promise breaks, and the way out holds."""
    case = CASES[name]
    for clients, promise in ((case.clients, case.promise), (case.rescued, case.holds)):
        possible, kept = explored(clients, case), []
        whole = Played(pair, case)
        assert whole(clients) in possible
        for promotes in range(1, whole.trips + 1):
            for parts in range(promotes):
                outcome = Played(pair, case, parts, promotes)(clients)
                assert outcome in possible
                world = World(list(outcome), None, (Step("fail over", None),))  # type: ignore[arg-type]
                kept.append(promise(world))
        assert all(kept) == (clients is case.rescued or case.one_trip)
