"""What a failover takes from each pattern, and the way out, as cases that can be explored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kvlab.chapters.beyond_one_server.programs import (
    adds,
    adds_again_without_an_id,
    adds_for_good,
    asks_four_times,
    asks_twice,
    counted_holder,
    fenced_holder,
    holder,
    invalidates,
    invalidates_for_good,
    later_holders_have_higher_fences,
    logged_in,
    logs_out,
    logs_out_and_waits,
    logs_out_for_good,
    new_database,
    one_inside,
    pays,
    pays_in_one_step,
    rotates,
    rotates_for_good,
    row_one,
    saves,
    saves_for_good,
    switched_on,
    switches_off,
    switches_off_for_good,
    within_a_limit_for_each_server,
    within_the_limit,
)
from kvlab.instruments import World, explore

Program = Callable[[Any], Any]


@dataclass(frozen=True)
class Case:
    """``clients`` break ``promise`` after a failover; ``rescued`` keep ``holds`` in every run.

    ``way_out``: what the rescued do, in words.

    ``control``: nearly the rescue, and broken. ``one_trip``: what is lost lies inside one round
    trip, so that only a cut in the stream to the replica loses it.
    """

    clients: tuple[Program, ...]
    promise: Callable[[World], object]
    rescued: tuple[Program, ...]
    holds: Callable[[World], object]
    way_out: str
    setup: Program | None = None
    control: tuple[Program, ...] | None = None
    one_trip: bool = False


def gives(answer: object, sentence: str) -> Callable[[World], object]:
    """The promise that the one client returns this."""

    def promise(world: World) -> object:
        return world.results == [answer]

    promise.__doc__ = sentence
    return promise


is_out = gives(False, "the id is dead")
has_five = gives(5.0, "the round counts once")
is_off = gives(False, "the flag is off")
sees_two = gives(2, "the reader sees the row that the database has")
no_money_is_made = gives(0, "both accounts have the payment, or neither has it")

CONFIRMED = "mark, WAIT, look again"
CASES: Mapping[str, Case] = {
    "two holders": Case(
        (holder, holder), one_inside,
        (fenced_holder, fenced_holder), later_holders_have_higher_fences,
        "a fence", new_database, (counted_holder, counted_holder),
    ),
    "a log-out that returns": Case(
        (logs_out,), is_out, (logs_out_for_good,), is_out,
        CONFIRMED, logged_in, (logs_out_and_waits,),
    ),
    "a rotation that is undone": Case(
        (rotates,), is_out, (rotates_for_good,), is_out, CONFIRMED, logged_in
    ),
    "a limiter that is full again": Case(
        (asks_twice,), within_the_limit, (asks_four_times,), within_a_limit_for_each_server,
        "one more limit at most",
    ),
    "a score that is lost": Case(
        (adds,), has_five, (adds_for_good,), has_five,
        "the same op_id, and " + CONFIRMED, None, (adds_again_without_an_id,),
    ),
    "a flag that comes back": Case(
        (switches_off,), is_off, (switches_off_for_good,), is_off, CONFIRMED, switched_on
    ),
    "an entry that comes back": Case(
        (invalidates,), sees_two, (invalidates_for_good,), sees_two, CONFIRMED, row_one
    ),
    "a row older than the saved one": Case(
        (saves,), sees_two, (saves_for_good,), sees_two,
        "the same version, and " + CONFIRMED, row_one,
    ),
    "half of a batch": Case(
        (pays,), no_money_is_made, (pays_in_one_step,), no_money_is_made,
        "atomic=True", one_trip=True,
    ),
}  # fmt: skip


def explored_cases() -> pd.DataFrame:
    """What a failover takes, with its shortest run, and the way out: one row a case."""
    rows = []
    for name, case in CASES.items():
        asked: dict[str, Any] = {"setup": case.setup, "failovers": True, "reduce": True}
        broken = explore(case.clients, invariant=case.promise, progress=False, **asked)
        held = explore(case.rescued, invariant=case.holds, progress=False, **asked)
        shares = [f"{story.violations} of {story.schedules}" for story in (broken, held)]
        rows.append((name, broken.schedule, shares[0], case.way_out, shares[1]))
    columns = ["a failover brings", "shortest run", "broken", "the way out", "then broken"]
    return pd.DataFrame(rows, columns=columns)
