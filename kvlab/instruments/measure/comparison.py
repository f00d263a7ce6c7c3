"""How many times as long a takes as b, with an interval.

Only the ratio within a turn counts, because machines drift from turn to turn. The interval says
how far the median ratio moves when the turns are drawn again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kvlab.core.checks import function, items, real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.turns import in_turns

Measured = Result | float
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """``ratio`` is the median of a/b over the turns; ``low``…``high`` its bootstrap interval.

    A cost (a latency): below 1 means that a is cheaper. ``a`` and ``b``: what each turn measured.
    """

    ratio: float
    low: float
    high: float
    confidence: float
    a: tuple[float, ...]
    b: tuple[float, ...]

    def __str__(self) -> str:
        """As in "kvlab takes 0.72 of the time (0.70 to 0.75), 28 % quicker"."""
        low, high = _digits(self.low), _digits(self.high)
        return f"{_digits(self.ratio)} of the time ({low} to {high}), {self._in_words()}"

    def _in_words(self) -> str:
        if self.low <= 1 <= self.high:
            return "no difference seen"
        if self.ratio < 1:
            much = f"{1 / self.ratio:.3g} times as quick"
            return much if self.ratio < 0.5 else f"{1 - self.ratio:.0%} quicker".replace("%", " %")
        much = f"{self.ratio:.3g} times as slow"
        return much if self.ratio > 2 else f"{self.ratio - 1:.0%} slower".replace("%", " %")


def _digits(ratio: float) -> str:
    return f"{ratio:.2f}" if 0.1 <= ratio < 10 else f"{ratio:.3g}"


def median_latency(measured: Measured) -> float:
    """The default measure: median seconds of a Result, or the number itself."""
    return measured.latency.percentile(50) if isinstance(measured, Result) else float(measured)


def compare(
    a: Callable[[], Measured],
    b: Callable[[], Measured],
    *,
    turns: int = 9,
    warmup: int = 1,
    seed: int = 0,
    confidence: float = 0.95,
    measure: Callable[[Measured], float] = median_latency,
    seconds: float = math.inf,
) -> Comparison:
    """Call ``a`` and ``b`` in turns and compare a over b; the first ``warmup`` turns are left out.

    ``seconds``: the time limit of :func:`in_turns`. The other arguments are those of
    :func:`ratio_over_turns`.
    """
    whole("turns", turns, 2)
    function("a", a)
    function("b", b)
    _check_rest(seed, confidence, measure)
    taken = in_turns({"a": a, "b": b}, turns=turns, warmup=warmup, seconds=seconds)
    return ratio_over_turns(
        taken["a"], taken["b"], seed=seed, confidence=confidence, measure=measure
    )


def ratio_over_turns(
    a: Sequence[Measured],
    b: Sequence[Measured],
    *,
    seed: int = 0,
    confidence: float = 0.95,
    measure: Callable[[Measured], float] = median_latency,
) -> Comparison:
    """Compare what the same turns measured of ``a`` and of ``b``.

    ``measure`` makes a number of what a turn measured, by default the median latency in seconds.
    The interval is the percentile bootstrap of the median (Efron, 1979) over whole turns, seeded.
    With fewer than about six turns the interval is of little use.
    """
    _check_rest(seed, confidence, measure)
    items("a", a)
    items("b", b)
    if len(a) != len(b) or len(a) < 2:
        raise InvalidArgument(f"a and b need the same turns, at least 2: got {len(a)} and {len(b)}")
    above = [real("a's measure", measure(one), 0, above=True) for one in a]
    below = [real("b's measure", measure(one), 0, above=True) for one in b]
    ratios = np.divide(above, below)
    drawn = np.random.default_rng(seed).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(np.median(ratios[drawn], axis=1), [tail, 100 - tail])
    return Comparison(
        float(np.median(ratios)), float(low), float(high), confidence, tuple(above), tuple(below)
    )


def _check_rest(seed: int, confidence: float, measure: Callable[[Measured], float]) -> None:
    whole("seed", seed, 0)
    real("confidence", confidence, 0.5, 0.999)
    function("measure", measure)
