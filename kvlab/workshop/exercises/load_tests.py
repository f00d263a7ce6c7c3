"""Chapter 10: latency from the intended start, and a judge of a fixed window."""

from __future__ import annotations

import random
from typing import Any

from kvlab.instruments.judges.admissions import judge
from kvlab.instruments.judges.denials import judge_denials
from kvlab.workshop.exercises.exercise import Exercise, Explore, promise

# --- the short one: latencies(interval, durations) ---


def _must_be(latencies: Any, interval: float, durations: list[float], wanted: list[float]) -> None:
    got = list(latencies(interval, list(durations)))
    shown = [round(float(value), 6) for value in got]
    assert shown == wanted, f"interval {interval:g}, durations {durations}: {wanted}, not {shown}"


@promise("nobody waits", "calls shorter than the interval have their own duration")
def nobody_waits(latencies: Any, explore: Explore) -> None:
    _must_be(latencies, 10, [1, 2, 3], [1, 2, 3])
    _must_be(latencies, 10, [], [])


@promise("a slow call", "delays the calls behind it, and their wait counts")
def slow_call(latencies: Any, explore: Explore) -> None:
    _must_be(latencies, 10, [25, 1, 1], [25, 16, 7])


@promise("the queue ends", "after the queue a call waits for its own intended start")
def queue_ends(latencies: Any, explore: Explore) -> None:
    _must_be(latencies, 10, [1, 1, 15, 1, 1, 1], [1, 1, 15, 6, 1, 1])
    _must_be(latencies, 10, [12, 12, 12, 1], [12, 14, 16, 7])


@promise("by chance", "200 random rows of durations are right")
def by_chance(latencies: Any, explore: Explore) -> None:
    chance = random.Random(10)
    for _ in range(200):
        durations = [float(chance.randrange(1, 30)) for _ in range(chance.randrange(1, 9))]
        end, wanted = 0.0, []
        for number, duration in enumerate(durations):
            end = max(end, number * 10.0) + duration
            wanted.append(end - number * 10.0)
        _must_be(latencies, 10, durations, wanted)


# --- the long one: judge_window(admitted, denied, limit, width) ---


@promise("each window has its limit", "across an edge twice the limit is right")
def each_window(judge_window: Any, explore: Explore) -> None:
    across = [999_998, 999_999, 1_000_000, 1_000_001]
    given = judge_window(across, [], 2, 1_000_000)
    assert tuple(given) == (0, 0), f"each window has its own limit of 2, so (0, 0), not {given}"


@promise("too many are counted", "over all windows, whatever the order of the times")
def too_many(judge_window: Any, explore: Explore) -> None:
    given = judge_window([5, 1, 3], [], 2, 1_000_000)
    assert given[0] == 1, f"3 in one window of limit 2 is one too many, not {given[0]}"
    given = judge_window([1, 2, 3, 11, 12, 13], [], 2, 10)
    assert given[0] == 2, f"one too many in each of two windows is 2, not {given[0]}"
    given = judge_window([13, 1, 2, 3, 12, 11, 25], [], 1, 10)
    assert given[0] == 4, f"limit 1: two too many in each of two windows is 4, not {given[0]}"


@promise("denials without reason", "a denial needs a full window at its moment")
def without_reason(judge_window: Any, explore: Explore) -> None:
    given = judge_window([], [7, 8], 1, 10)
    assert given[1] == 2, f"nobody was admitted: both denials are without reason, not {given[1]}"
    given = judge_window([1, 5], [4], 2, 1_000_000)
    assert given[1] == 1, f"at 4 one of 2 was admitted: one without reason, not {given[1]}"
    given = judge_window([1, 5], [5], 2, 1_000_000)
    assert given[1] == 0, f"the second may have come before the denial at 5: 0, not {given[1]}"
    given = judge_window([1, 2], [12], 2, 10)
    assert given[1] == 1, f"the window of 12 is empty: one without reason, not {given[1]}"


@promise("by chance", "100 random records get the verdict of the workbook's own judge")
def as_the_oracle(judge_window: Any, explore: Explore) -> None:
    chance = random.Random(10)
    for _ in range(100):
        admitted = [chance.randrange(5_000_000) for _ in range(30)]
        denied = [chance.randrange(5_000_000) for _ in range(30)]
        given, right = judge_window(admitted, denied, 6, 1_000_000), _oracle(admitted, denied)
        assert tuple(given) == right, f"a random record: {right}, not {given}"


def _oracle(admitted: list[int], denied: list[int]) -> tuple[int, int]:
    seconds = [[moment / 1e6 for moment in times] for times in (admitted, denied)]
    too_many = judge("fixed-window", seconds[0], limit=6, window=1.0).over
    unjustified = judge_denials("fixed-window", *seconds, limit=6, window=1.0).unjustified
    return too_many, unjustified


EXERCISES = (
    Exercise(
        number="10-short",
        function="latencies",
        title="latency from the intended start",
        minutes=10,
        hints=(
            "Call number i should start at i * interval. What if the call before it has not ended?",
            "A call starts at its intended start or at the end of the call before: the later "
            "of the two.",
            "end = max(end, number * interval) + duration; the latency is end - number * interval.",
        ),
        promises=(nobody_waits, slow_call, queue_ends, by_chance),
    ),
    Exercise(
        number="10",
        function="judge_window",
        title="judge a fixed window",
        minutes=25,
        hints=(
            "Which window does a moment belong to? moment // width is a name for it.",
            "Collect the admissions by window. Too many: what is beyond the limit in each.",
            "A denial at `at` is without reason when fewer than limit admissions of its window are "
            "at `at` or before.",
        ),
        promises=(each_window, too_many, without_reason, as_the_oracle),
    ),
)
