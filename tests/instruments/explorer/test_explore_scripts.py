"""Exploring programs that use scripts: a run must not depend on what the run before it loaded."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from kvlab import FixedWindow
from kvlab.errors import InvalidArgument
from kvlab.instruments import Faults, World, explore, replay

ADD = "return redis.call('INCR', KEYS[1])"
TWICE = "return redis.call('INCRBY', KEYS[1], 2)"
LIMITER = FixedWindow("api", limit=3, window=60)


def hit(kv: Any) -> Any:
    return kv.run(LIMITER.hit("ann"))


def add(kv: Any) -> Any:
    return kv.register_script(ADD)(keys=["n"])


def test_loading_a_script_is_no_step_of_any_run() -> None:
    story = explore([add, add], invariant=lambda w: sorted(w.results) == [1, 2])
    assert story
    assert story.schedules == 2  # who comes first


def test_a_pipeline_asks_for_its_scripts_once_and_never_loads_them_again() -> None:
    def piped(kv: Any) -> Any:
        pipe = kv.pipeline()
        kv.register_script(ADD)(keys=["n"], client=pipe)
        return pipe.execute()

    story = explore([piped, piped])
    assert story
    assert story.schedules == 6  # SCRIPT EXISTS and MULTI, twice


def test_a_flush_is_a_choice_before_each_command_and_costs_a_reload() -> None:
    # Without: 1. Before the first step: EVALSHA, SCRIPT LOAD, EVALSHA, none of them ordered.
    assert explore([add], script_flushes=True).schedules == 2


def counted(clients: tuple[str, ...], cached: bool, faults: int) -> int:
    """Runs of ``hit`` by each client with flushes and crashes, worked out without a server."""
    if set(clients) == {"ended"}:
        return 1
    total = counted(clients, False, faults - 1) if faults else 0
    for number, at in enumerate(clients):

        def goes(to: str, number: int = number) -> tuple[str, ...]:
            return (*clients[:number], to, *clients[number + 1 :])

        if at == "EVALSHA":  # its first step: no crash before it
            total += counted(goes("ended" if cached else "EVAL"), cached, faults)
        elif at == "EVAL":
            total += counted(goes("ended"), True, faults)
            total += counted(goes("ended"), cached, faults - 1) if faults else 0
    return total


def test_what_a_crash_left_unloaded_is_there_for_the_next_run() -> None:
    story = explore([hit, hit], script_flushes=True, crashes=True, max_faults=2)
    assert story
    assert story.schedules == counted(("EVALSHA", "EVALSHA"), True, 2)


def test_two_scripts_one_of_which_stays_forgotten() -> None:
    def both(kv: Any) -> Any:
        kv.register_script(ADD)(keys=["n"])
        return kv.register_script(TWICE)(keys=["n"])

    faults = Faults(script_flushes=True, crashes=True)
    missing = redis.exceptions.NoScriptError
    story = explore([both], faults=faults, max_faults=2, expected=missing)
    assert story
    assert story.excused == {"NoScriptError": 3}
    assert explore([both], faults=faults, max_faults=2).violations == 3


def test_a_script_that_is_always_missing_is_part_of_the_program() -> None:
    def never_loaded(kv: Any) -> str:
        try:
            kv.evalsha("0" * 40, 0)
        except redis.exceptions.NoScriptError:
            return "missing"
        return "there"

    story = explore([never_loaded] * 2, invariant=lambda w: w.results == ["missing"] * 2)
    assert story
    assert story.schedules == 2


def test_a_setup_that_flushes_makes_every_run_load_its_script() -> None:
    story = explore([add], setup=lambda kv: kv.script_flush())
    assert story
    assert story.schedules == 1


def test_a_client_that_flushes_does_not_disturb_the_next_run() -> None:
    # E: EVALSHA, F: the flush, G: GET. E before F: 3 orders. After F the script is loaded, in two
    # steps more, and G has 5 places.
    story = explore([add, lambda kv: kv.script_flush(), lambda kv: kv.get("a")])
    assert story
    assert story.schedules == 3 + 5


def test_a_replay_is_not_confused_by_the_first_load() -> None:
    story = explore([hit, hit], expiries=True, invariant=never_expired)
    assert story.violations == 2  # between the two hits, of either order
    again = replay(story.schedule or "", [hit, hit], invariant=never_expired)
    assert again.schedule == story.schedule
    assert again.broken == {"not true: never expired": 1}


def never_expired(world: World) -> bool:
    return not any(step.kind == "expire" for step in world.trace)


def test_a_replay_refuses_a_key_that_is_not_there() -> None:
    with pytest.raises(InvalidArgument, match="step 1 of the schedule is 'e:other'"):
        replay("e:other 0 1", [hit, hit])
