from __future__ import annotations

from collections import Counter, defaultdict
from itertools import accumulate

import numpy as np
from workshop.answers.answer import Answers

ANSWERS = Answers()


@ANSWERS.right("10-short")
def latencies_with_a_loop(interval, durations):
    end, found = 0.0, []
    for number, duration in enumerate(durations):
        intended = number * interval
        end = max(end, intended) + duration
        found.append(end - intended)
    return found


@ANSWERS.right("10-short")
def latencies_by_recursion(interval, durations, behind=0.0):
    if not durations:
        return []
    latency = behind + durations[0]
    return [latency, *latencies_by_recursion(interval, durations[1:], max(0, latency - interval))]


@ANSWERS.right("10-short")
def latencies_by_accumulation(interval, durations):
    return accumulate(durations, lambda before, now: max(0, before - interval) + now)


@ANSWERS.wrong("10-short", "[25, 16, 7], not [25.0, 1.0, 1.0]")
def latencies_as_measured(interval, durations):
    """The durations alone: a closed loop leaves the wait out."""
    return durations


@ANSWERS.wrong("10-short", "[1, 2, 3], not")
def latencies_without_a_pause(interval, durations):
    """Each call starts at the end of the call before, also before its time."""
    return [end - i * interval for i, end in enumerate(accumulate(durations))]


@ANSWERS.wrong("10-short", "[1, 2, 3], not [0.0, 0.0, 0.0]")
def latencies_over_the_interval(interval, durations):
    """Counts only what is longer than the interval."""
    return [max(0, duration - interval) for duration in durations]


@ANSWERS.wrong("10-short", "[25, 16, 7], not [25.0, 16.0, 1.0]")
def latencies_of_the_next_one(interval, durations):
    """The slow call delays only the next call."""
    before = [0, *durations[:-1]]
    return [max(0, b - interval) + d for b, d in zip(before, durations, strict=True)]


@ANSWERS.wrong("10-short", "not [25.0, 26.0, 27.0]")
def latencies_all_added(interval, durations):
    """Adds the durations up, and forgets the intended starts."""
    return accumulate(durations) if max(durations, default=0) > interval else durations


# --- 10 ---


@ANSWERS.right("10")
def judge_with_lists(admitted, denied, limit, width):
    windows = defaultdict(list)
    for moment in admitted:
        windows[moment // width].append(moment)
    too_many = sum(max(0, len(moments) - limit) for moments in windows.values())
    without = 0
    for at in denied:
        without += sum(moment <= at for moment in windows[at // width]) < limit
    return too_many, without


@ANSWERS.right("10")
def judge_with_counters(admitted, denied, limit, width):
    counts = Counter(moment // width for moment in admitted)
    too_many = sum(count - limit for count in counts.values() if count > limit)
    without = [
        at for at in denied if sum(m <= at and m // width == at // width for m in admitted) < limit
    ]
    return too_many, len(without)


@ANSWERS.right("10")
def judge_with_numpy(admitted, denied, limit, width):
    times = np.sort(np.array(admitted, dtype=np.int64))
    _, counts = np.unique(times // width, return_counts=True)
    ends = np.searchsorted(times, np.array(denied, dtype=np.int64), side="right")
    starts = np.searchsorted(times, np.array([at // width * width for at in denied]), side="left")
    return int(np.maximum(counts - limit, 0).sum()), int((ends - starts < limit).sum())


@ANSWERS.wrong("10", "without reason, not 0")
def judge_happy(admitted, denied, limit, width):
    """Never looks at the denials: it accepts a limiter that denies everybody."""
    counts = Counter(moment // width for moment in admitted)
    return sum(max(0, count - limit) for count in counts.values()), 0


@ANSWERS.wrong("10", "each window has its own limit of 2")
def judge_sliding(admitted, denied, limit, width):
    """Judges a sliding window: stricter than what was promised."""
    times = sorted(admitted)
    too_many = sum(
        later - earlier < width for earlier, later in zip(times, times[limit:], strict=False)
    )
    return too_many, 0


@ANSWERS.wrong("10", "one too many in each of two windows is 2, not 1")
def judge_the_worst_window(admitted, denied, limit, width):
    """Counts the worst window alone."""
    counts = Counter(moment // width for moment in admitted)
    too_many = max(0, max(counts.values(), default=0) - limit)
    return too_many, sum(sum(m <= d for m in admitted) < limit for d in denied)


@ANSWERS.wrong("10", "one without reason, not 0")
def judge_the_whole_window(admitted, denied, limit, width):
    """Counts admissions after the denial too."""
    counts = Counter(moment // width for moment in admitted)
    too_many = sum(max(0, count - limit) for count in counts.values())
    return too_many, sum(counts[at // width] < limit for at in denied)


@ANSWERS.wrong("10", "the second may have come before the denial at 5: 0, not 1")
def judge_strictly_before(admitted, denied, limit, width):
    """`<` where `<=` is right: an admission in the same microsecond."""
    windows = defaultdict(list)
    for moment in admitted:
        windows[moment // width].append(moment)
    too_many = sum(max(0, len(moments) - limit) for moments in windows.values())
    return too_many, sum(sum(m < at for m in windows[at // width]) < limit for at in denied)


@ANSWERS.wrong("10", "one without reason, not 0")
def judge_counts_all_windows(admitted, denied, limit, width):
    """Counts admissions of earlier windows too."""
    counts = Counter(moment // width for moment in admitted)
    too_many = sum(max(0, count - limit) for count in counts.values())
    return too_many, sum(sum(m <= at for m in admitted) < limit for at in denied)
