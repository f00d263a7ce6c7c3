"""What became of each row since an older run: quicker, slower, the same, or can't tell.

A row is compared with itself: how the ratio to its peer changed. The peer was measured in the same
turns, so a machine that is a little slower today makes no row slower. Where all A/A rows, which are
round trips alone, take more than ``PACE`` times as long or as short as before, round trips have
another share in every row: then no row is called quicker or slower.

The error of a row has two parts. Turns differ within a round; and rounds differ, because each has
a process of its own and the machine's load changes. The second part has few rounds to be seen in,
so all rows of a run estimate it together (``drift``). Each interval is so wide that at most one in
twenty *runs*, not rows, has a wrong one (Bonferroni).

A row is quicker or slower when its whole interval lies beyond the noise: that of the two runs' A/A
rows, and at least ``LEAST``. A row is the same when its whole interval lies within ``SAME``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median, variance
from typing import Any

from kvlab.bench.run import CONTROL, BenchRun, Row
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.comparison import Comparison, change, digits

WRONG = 0.05
"""The chance that any interval of a run misses the truth."""
LEAST = 1.05
"""Less is never called quicker or slower: a new build moves code in memory."""
SAME = 1.15
"""The ratio up to which a change is called none, at most."""
PACE = 1.5
SLOWER, QUICKER, EQUAL, UNKNOWN = "slower", "quicker", "the same", "can't tell"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one row. ``changed``: the ratio of the two ratios, with its interval."""

    row: Row
    changed: Comparison
    word: str

    def __str__(self) -> str:
        """As in "slower: 1.21 of the older time (1.14 to 1.28)"."""
        found = self.changed
        low = "under 0.1" if found.low < 0.1 else digits(found.low)
        high = "over 10" if found.high > 10 else digits(found.high)
        return f"{self.word}: {digits(found.ratio)} of the older time ({low} to {high})"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """All rows that both runs have. ``lost``: rows of the older run that this run has not.

    ``versions``: what is not of one version in the two runs, in words.
    """

    each: tuple[Verdict, ...]
    noise: float
    lost: tuple[str, ...]
    versions: tuple[str, ...]

    def having(self, word: str) -> list[Verdict]:
        """The verdicts with this word."""
        return [one for one in self.each if one.word == word]


def against(new: BenchRun, old: BenchRun) -> Verdicts:
    """A verdict a row. Raises ``InvalidArgument`` when the runs have no row in common."""
    before = {row.key: row for row in old.rows if row.benchmark != CONTROL}
    both = [(row, before[row.key]) for row in new.rows if row.key in before]
    if not both:
        raise InvalidArgument("the two runs have no row in common")
    noise = max(LEAST, new.noise, old.noise)
    confidence = 1 - WRONG / len(both)
    drifts = drift(new), drift(old)
    pace = _pace(new, old)
    other_pace = not 1 / PACE <= pace <= PACE
    judged = []
    for row, other in both:
        now, then = (_widened(one, d) for one, d in zip((row, other), drifts, strict=True))
        changed = change(now, then, confidence=confidence)
        judged.append(Verdict(row, changed, _word(changed, math.inf if other_pace else noise)))
    here = {row.key for row in new.rows}
    lost = tuple(row.name for key, row in before.items() if key not in here)
    said = [*_versions(new, old, both)]
    if other_pace:
        said.append(
            f"the machine's pace: a round trip takes {pace:.2g} times as long as in the older run; "
            "so no row is called quicker or slower"
        )
    return Verdicts(tuple(judged), noise, lost, tuple(said))


def _pace(new: BenchRun, old: BenchRun) -> float:
    """How many times as long the A/A rows take; of several the one that changed least."""
    before = {row.key: row for row in old.rows if row.benchmark == CONTROL}
    ratios = [row.medians[1] / before[row.key].medians[1] for row in new.rows if row.key in before]
    return min(ratios, key=lambda ratio: abs(math.log(ratio)), default=1.0)


def drift(run: BenchRun) -> float:
    """By how much a row's log ratio differs from round to round, beyond what turns explain.

    Half of the rows differ by less: rows that wait for threads or read memory have no say.
    """
    most = max(len(row.turns) for row in run.rows)
    beyond = []
    for row in run.rows:
        rounds = [*_rounds(row).values()]
        if len(row.turns) == most and min(len(rounds), *map(len, rounds)) > 1:
            explained = fmean(variance(logs) / len(logs) for logs in rounds)
            beyond.append(variance(map(fmean, rounds)) - explained)
    return math.sqrt(max(median(beyond), 0)) if beyond else 0.0


def _rounds(row: Row) -> dict[int, list[float]]:
    """The logarithms of the turns' ratios, by round."""
    rounds: dict[int, list[float]] = {}
    for turn in row.turns:
        rounds.setdefault(turn.round, []).append(math.log(turn.ours / turn.peer))
    return rounds


def _widened(row: Row, drift: float) -> Comparison:
    """The row's comparison, its error with that between rounds."""
    means = [fmean(logs) for logs in _rounds(row).values()]
    between = variance(means) / len(means) if len(means) > 1 else 0.0
    error = math.sqrt(max(row.compared.error**2, between) + drift**2 / len(means))
    return replace(row.compared, error=error)


def _word(changed: Comparison, noise: float) -> str:
    if changed.low > noise:
        return SLOWER
    if changed.high < 1 / noise:
        return QUICKER
    return EQUAL if changed.low >= 1 / SAME and changed.high <= SAME else UNKNOWN


def _versions(new: BenchRun, old: BenchRun, both: Sequence[tuple[Row, Row]]) -> list[str]:
    """As in "redis_py 8.1.0, before 8.0.1"; a verdict may be the peer's."""
    pairs: dict[str, tuple[Any, Any]] = {
        row.peer: (row.version, other.version) for row, other in both
    }
    names = {*new.environment} | {*old.environment}
    pairs |= {n: (new.environment.get(n), old.environment.get(n)) for n in sorted(names)}
    return [f"{name} {now}, before {then}" for name, (now, then) in pairs.items() if now != then]
