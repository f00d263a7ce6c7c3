"""Chapter 3: a fixed window, and a caller that waits as long as it must."""

from __future__ import annotations

import math
import time
from typing import Any

from kvlab import Key, Op
from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story
from kvlab.rate_limiting.decision import Decision
from kvlab.workshop.exercises.exercise import TEXT, Exercise, Explore, each_key_ends, promise

# --- the short one: hit(kv, key, limit) ---


@promise("the limit, and not one more", "of five hits at a limit of three the first three get in")
def the_limit(hit: Any, explore: Explore) -> Story:
    def first_three(world: World) -> bool:
        said = world.results[0]
        assert said == [True] * 3 + [False] * 2, f"five hits at a limit of 3 were answered {said}"
        return True

    return explore(
        {"Ann": lambda kv: [bool(hit(kv, "ann", 3)) for _ in range(5)]},
        invariant=first_three,
        client_options=TEXT,
    )


@promise("in every order", "of three clients at once exactly two get in at a limit of two")
def in_every_order(hit: Any, explore: Explore) -> Story:
    def two_of_three(world: World) -> bool:
        inside = sum(map(bool, world.results))
        assert inside == 2, f"the limit is 2, and {inside} of three clients got in"
        return True

    return explore([lambda kv: hit(kv, "api", 2)] * 3, invariant=two_of_three, client_options=TEXT)


@promise("every window ends", "each key has a TTL, wherever a crash or the end of a TTL comes")
def every_window_ends(hit: Any, explore: Explore) -> Story:
    def has_ttl(world: World) -> bool:
        each_key_ends(world, "after `limit` hits all others are denied for ever")
        return True

    return explore(
        {"Ann": lambda kv: hit(kv, "ann", 2)},
        invariant=has_ttl,
        crashes=True,
        expiries=True,
        client_options=TEXT,
    )


@promise("the window does not move", "a client that tries every 10 s is admitted again within 60 s")
def does_not_move(hit: Any, explore: Explore) -> Story:
    def knocks(kv: Any) -> list[bool]:
        said = [bool(hit(kv, "ann", 1))]
        for _ in range(7):
            time.sleep(10)
            said.append(bool(hit(kv, "ann", 1)))
        return said

    def gets_in_again(world: World) -> bool:
        said = world.results[0]
        assert said[0], "the first hit was refused: is the count on the server, and nowhere else?"
        assert any(said[1:]), "denied for 70 s: each hit moves the end of the window"
        assert not all(said), "admitted each time: where is the window?"
        return True

    return explore({"Ann": knocks}, invariant=gets_in_again, client_options=TEXT)


# --- the long one: patient(limiter, key, cost, give_up) ---


class Turnstile:
    """A limiter of the trials, on the clock of the client: ``limit`` units in any 60 s.

    ``script``: waits to answer with, instead of the true ones, before the hit is admitted.
    """

    def __init__(self, limit: int, script: tuple[float, ...] = ()) -> None:
        self.limit, self._script = limit, script
        self._admitted: list[float] = []
        self.hits = 0

    def begin(self, kv: Any) -> None:
        self._admitted.clear()
        self.hits = 0

    def hit(self, key: str, cost: int = 1) -> Op[Decision]:
        return Op("INCRBY", Key(f"hits:{key}"), cost, decode=lambda _: self._decide(cost))

    def _decide(self, cost: int) -> Decision:
        now = time.monotonic()
        self.hits += 1
        if self._script:
            wait = self._script[self.hits - 1] if self.hits <= len(self._script) else 0.0
        else:
            wait = self._wait(now, cost)
        if wait == 0:
            self._admitted += [now] * cost
        return Decision(wait == 0, self.limit, 0, wait, wait, at=now)

    def _wait(self, now: float, cost: int) -> float:
        if cost > self.limit:
            return math.inf
        inside = sorted(at for at in self._admitted if at > now - 60)
        too_many = len(inside) + cost - self.limit
        return 0.0 if too_many <= 0 else inside[too_many - 1] + 60 - now


def _asks(patient: Any, turnstile: Turnstile, cost: int, give_up: float) -> Any:
    """A client program: (the decision's ``allowed``, its ``retry_after``, the seconds waited)."""

    def asks(kv: Any) -> tuple[bool, float, float]:
        began = time.monotonic()
        decision = kv.run(patient(turnstile, "kim", cost, give_up))
        assert isinstance(decision, Decision), f"the flow returned {decision!r}, not a Decision"
        return decision.allowed, decision.retry_after, round(time.monotonic() - began, 3)

    return asks


@promise("admitted in the end", "each of 12 requests gets in, given the patience")
def admitted(patient: Any, explore: Explore) -> Story:
    turnstile = Turnstile(5)

    def asks(kv: Any) -> list[bool]:
        return [kv.run(patient(turnstile, "kim", 1, 300)).allowed for _ in range(12)]

    def everybody(world: World) -> bool:
        said = world.results[0]
        assert all(said), f"with 300 s of patience, request {said.index(False) + 1} was refused"
        assert turnstile.hits <= 24, f"{turnstile.hits} hits for 12 requests: wait, then hit once"
        return True

    return explore({"Kim": asks}, setup=turnstile.begin, invariant=everybody)


@promise("never fits", "a cost that never fits is answered immediately, without a wait")
def never_fits(patient: Any, explore: Explore) -> Story:
    turnstile = Turnstile(5)

    def at_once(world: World) -> bool:
        allowed, retry_after, waited = world.results[0]
        assert not allowed, "a cost of 6 never fits a limit of 5: is the cost passed on?"
        assert retry_after == math.inf, "return the decision as the limiter gave it"
        assert waited == 0, f"waited {waited:g} s for a cost that never fits"
        return True

    return explore(
        {"Kim": _asks(patient, turnstile, 6, 100.0)}, setup=turnstile.begin, invariant=at_once
    )


@promise("gives up without waiting", "a wait that is longer than give_up is not begun")
def gives_up(patient: Any, explore: Explore) -> Story:
    turnstile = Turnstile(1, script=(60.0,))

    def at_once(world: World) -> bool:
        allowed, _, waited = world.results[0]
        assert waited == 0, f"give_up is 10 s, the wait is 60 s, and it waited {waited:g} s"
        assert not allowed, "the limiter said no, and the decision says yes"
        return True

    return explore(
        {"Kim": _asks(patient, turnstile, 1, 10.0)}, setup=turnstile.begin, invariant=at_once
    )


@promise("all waits count", "the waits together stay within give_up, and use it")
def all_waits_count(patient: Any, explore: Explore) -> Story:
    turnstile = Turnstile(1, script=(30.0, 30.0, 30.0))

    def two_waits(world: World) -> bool:
        allowed, _, waited = world.results[0]
        assert waited <= 70, f"give_up is 70 s, and it waited {waited:g} s in all"
        assert waited == 60, f"two waits of 30 s fit into 70 s, and it waited {waited:g} s"
        assert not allowed, "the limiter said no, and the decision says yes"
        return True

    return explore(
        {"Kim": _asks(patient, turnstile, 1, 70.0)}, setup=turnstile.begin, invariant=two_waits
    )


EXERCISES = (
    Exercise(
        number="03-short",
        function="hit",
        title="a fixed window",
        minutes=10,
        hints=(
            "What is left on the server when you crash after your first command?",
            "INCR counts and answers in one step. The TTL comes with the first hit, in the same "
            "step, and never again in that window.",
            "In one MULTI (kv.pipeline()): SET key 0 EX 60 NX, then INCR key; allowed when the "
            "count is at most the limit. Or both in a script.",
        ),
        promises=(the_limit, in_every_order, every_window_ends, does_not_move),
    ),
    Exercise(
        number="03",
        function="patient",
        title="a caller that waits as long as it must",
        minutes=20,
        hints=(
            "Who knows how long the wait is: you or the decision?",
            "A loop: while the decision is denied and the wait still fits, wait and hit again. Two "
            "waits of 30 s are a wait of 60 s.",
            "Keep waited = 0.0. While not decision.allowed and waited + decision.retry_after <= "
            "give_up: yield from Wait(decision.retry_after), add it, hit again with the cost.",
        ),
        promises=(admitted, never_fits, gives_up, all_waits_count),
    ),
)
