"""The search alone, over programs that are no more than numbers: no server, no clients."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import islice, pairwise
from typing import Any

import pytest

from kvlab.instruments.explorer.search import MAX_REPEATS, Nondeterministic, RepeatRun, Search

Step = tuple[int, str, str]  # whose, "r" or "w", which variable


class Threads:
    """Threads of reads and writes; a write stores who wrote it and what it had read last."""

    def __init__(self, threads: Sequence[Sequence[tuple[str, str]]]) -> None:
        self.threads = threads
        self.at = [0] * len(threads)
        self.saw: list[tuple[str, ...]] = [()] * len(threads)
        self.store: dict[str, str] = {}
        self.ended = False

    def options(self) -> list[Step]:
        both = enumerate(zip(self.threads, self.at, strict=True))
        return [(n, *thread[at]) for n, (thread, at) in both if at < len(thread)]

    def take(self, choice: Step) -> Step:
        number, kind, variable = choice
        self.at[number] += 1
        if kind == "r":
            self.saw[number] += (self.store.get(variable, "-"),)
        else:
            self.store[variable] = f"{number}.{self.at[number]}{''.join(self.saw[number])}"
        return choice

    def commute(self, one: Step, other: Step) -> bool:
        if one[0] == other[0]:
            return False
        return one[2] != other[2] or one[1] == other[1] == "r"

    def unlike(self, before: Step, now: Step) -> str | None:
        return None if before == now else f"was {before} and is {now}"

    def end(self) -> None:
        self.ended = True

    @property
    def state(self) -> tuple[object, ...]:
        return tuple(self.saw), tuple(sorted(self.store.items()))


def multinomial(*sizes: int) -> int:
    return math.factorial(sum(sizes)) // math.prod(map(math.factorial, sizes))


def switches(before: Step | None, step: Step) -> int:
    return int(before is not None and before[0] != step[0])


@pytest.mark.parametrize(
    "sizes", [(1,), (3,), (1, 1), (2, 2), (3, 2), (3, 3), (1, 1, 1), (2, 2, 2)]
)
@pytest.mark.parametrize("cost", [None, switches])
def test_every_order_once(sizes: tuple[int, ...], cost: Any) -> None:
    threads = [[("w", "x")] * size for size in sizes]
    paths = [path for path, _ in Search(lambda: Threads(threads), cost=cost)]
    assert len(paths) == len(set(paths)) == multinomial(*sizes)
    assert all(len(path) == sum(sizes) for path in paths)


@pytest.mark.parametrize("sizes", [(1, 1), (2, 2), (3, 3), (2, 2, 2)])
@pytest.mark.parametrize("kind", ["own variables", "reads"])
def test_orders_that_commute_are_made_once(sizes: tuple[int, ...], kind: str) -> None:
    threads = [
        [("w", f"x{n}") if kind == "own variables" else ("r", "x")] * size
        for n, size in enumerate(sizes)
    ]
    assert len(list(Search(lambda: Threads(threads), reduce=True))) == 1


@pytest.mark.parametrize("cost", [None, switches])
@pytest.mark.parametrize("seed", range(60))
def test_reduced_reaches_every_state_and_each_class_once(seed: int, cost: Any) -> None:
    rng = random.Random(seed)
    threads = [
        [(rng.choice("rw"), rng.choice("xy")) for _ in range(rng.randint(1, 3))]
        for _ in range(rng.choice([2, 2, 3]))
    ]
    full = [(path, run.state) for path, run in Search(lambda: Threads(threads))]
    reduced = Search(lambda: Threads(threads), reduce=True, cost=cost)
    fewer = [(path, run.state) for path, run in reduced]
    assert {state for _, state in fewer} == {state for _, state in full}

    def ordered(path: Sequence[Step]) -> frozenset[tuple[object, ...]]:
        """What tells one class of equal runs from another: the order of all that do not commute."""
        named = [(step, path[:i].count(step)) for i, step in enumerate(path)]
        commute = Threads(threads).commute
        return frozenset(
            (one, other)
            for i, one in enumerate(named)
            for other in named[i + 1 :]
            if not commute(one[0], other[0])
        )

    classes = [ordered(path) for path, _ in fewer]
    assert len(classes) == len(set(classes)), "sleep sets complete one run of a class"
    assert set(classes) == {ordered(path) for path, _ in full}


def test_every_execution_is_ended_even_one_that_is_cut() -> None:
    begun: list[Threads] = []

    def begin() -> Threads:
        begun.append(Threads([[("w", "x"), ("r", "y")], [("r", "x"), ("w", "y")]]))
        return begun[-1]

    completed = list(Search(begin, reduce=True))
    assert len(begun) >= len(completed)
    assert all(run.ended for run in begun)


def test_the_first_option_is_taken_first() -> None:
    paths = [path for path, _ in Search(lambda: Threads([[("w", "x")], [("w", "x")]]))]
    assert [[step[0] for step in path] for path in paths] == [[0, 1], [1, 0]]


def test_runs_of_few_switches_come_early() -> None:
    """Of 924 orders the 12 with at most two changes: depth first, half of them come last."""
    threads = [[("w", "x")] * 6] * 2

    def few(cost: Any, most: int) -> int:
        paths = (path for path, _ in islice(Search(lambda: Threads(threads), cost=cost), most))
        return sum(sum(one[0] != two[0] for one, two in pairwise(path)) <= 2 for path in paths)

    assert few(switches, 924) == few(None, 924) == 12
    assert few(switches, 60) == 12
    assert few(None, 60) < 12


@pytest.mark.parametrize("every", [1, 3])
def test_parts_given_away_make_the_whole_by_cost_too(every: int) -> None:
    threads = [[("w", "x")] * 3, [("w", "x")] * 2, [("w", "x")]]
    found, parts = [], [()]  # type: ignore[var-annotated]
    while parts:
        search = Search(lambda: Threads(threads), part=parts.pop(), cost=switches)
        for path, _ in search:
            found.append(path)
            if len(found) % every == 0 and (part := search.split()) is not None:
                parts.append(part)
        assert search.unexplored == 0
    assert len(found) == len(set(found)) == 60


def test_unexplored_counts_what_is_still_to_be_taken() -> None:
    search = Search(lambda: Threads([[("w", "x")] * 2] * 2))
    left = [search.unexplored for _ in search]
    assert left[0] == 2  # along 0 0 1 1: the other way at the start, and after the first
    assert left[-1] == 0


@pytest.mark.parametrize("every", [1, 2, 5])
def test_parts_given_away_make_the_whole_and_no_run_twice(every: int) -> None:
    """Wherever a search is split, and parts again: the runs, put by their places in order."""
    threads = [[("w", "x")] * 3, [("w", "x")] * 2, [("w", "x")]]
    whole = [path for path, _ in Search(lambda: Threads(threads))]
    found, parts = [], [()]  # type: ignore[var-annotated]
    while parts:
        search = Search(lambda: Threads(threads), part=parts.pop())
        for path, _ in search:
            found.append((search.place, path))
            left = search.unexplored
            if len(found) % every == 0 and (part := search.split()) is not None:
                parts.append(part)
                assert search.unexplored == left - 1
            else:
                assert search.unexplored == left
    assert [path for _, path in sorted(found)] == whole


def test_a_part_is_the_largest_that_is_left() -> None:
    search = Search(lambda: Threads([[("w", "x")] * 2] * 2))
    next(iter(search))  # 0 0 1 1
    given = [[step[0] for _, step in search.split() or ()] for _ in range(3)]
    assert given == [[1], [0, 1], []]


def test_a_part_whose_path_is_not_found_again_raises_nondeterministic() -> None:
    first = Search(lambda: Threads([[("w", "x")], [("w", "x")]]))
    next(iter(first))
    elsewhere = Search(lambda: Threads([[("w", "y")], [("w", "x")]]), part=first.split() or ())
    with pytest.raises(Nondeterministic, match="after the start the choices were"):
        next(iter(elsewhere))


def test_a_run_that_begins_unlike_the_others_is_made_again() -> None:
    warm: set[str] = set()

    class Cold(Threads):
        def options(self) -> list[Step]:
            found = super().options()
            return (
                found if warm or not found else [(0, "w", "loading")] if not self.at[0] else found
            )

        def end(self) -> None:
            if not warm:
                warm.add("now")
                raise RepeatRun

    paths = [path for path, _ in Search(lambda: Cold([[("w", "x")], [("w", "x")]]))]
    assert paths == [((0, "w", "x"), (1, "w", "x")), ((1, "w", "x"), (0, "w", "x"))]


def test_a_run_that_never_begins_like_the_others_is_given_up() -> None:
    ends = 0

    class Never(Threads):
        def end(self) -> None:
            nonlocal ends
            ends += 1
            raise RepeatRun

    with pytest.raises(Nondeterministic):
        list(Search(lambda: Never([[("w", "x")]])))
    assert ends == MAX_REPEATS + 1


def test_other_options_after_the_same_choices_raise_nondeterministic() -> None:
    runs = 0

    def begin() -> Threads:
        nonlocal runs
        runs += 1
        return Threads([[("w", "x")] * (2 if runs == 1 else 1), [("w", "x")]])

    with pytest.raises(Nondeterministic, match=r"the choices were .* the first time and .* now"):
        list(Search(begin))
