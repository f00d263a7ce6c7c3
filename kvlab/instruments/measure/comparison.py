"""How many times as long a takes as b, with an interval.

Only the ratio within a turn counts, because machines drift from turn to turn. The ratio is the
geometric mean of the turns' ratios, and the interval is Student's t of their logarithms. Where the
order within the turns is known and changed, what the place in a turn costs is estimated beside the
ratio and taken out, as in a crossover trial (Hills and Armitage, "The two-period cross-over
clinical trial", 1979; Jones and Kenward, "Design and Analysis of Cross-Over Trials"). So a machine
that becomes slower during a turn makes neither side look slow.

How often the interval is wrong is measured: ``python -m benchmarks.studies.comparison``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from kvlab.core.checks import function, instance, items, real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.result import Result
from kvlab.instruments.measure.theory import student_t
from kvlab.instruments.measure.turns import Taken, in_turns

Measured = Result | float
POWER = 0.8
"""A difference counts as visible when this share of such runs would see it."""
NOISY = 1.1
"""A run that would miss a ratio of this size is called too noisy."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """``ratio`` is the geometric mean of a/b over the turns; ``low``…``high`` its interval.

    A cost (a latency): below 1 means that a is cheaper. ``a`` and ``b``: what each turn measured.
    ``visible``: the smallest ratio above 1 that four of five such runs would tell from 1.
    ``error`` and ``freedom``: the standard error of the ratio's logarithm, and its freedom.
    """

    ratio: float
    low: float
    high: float
    confidence: float
    a: tuple[float, ...]
    b: tuple[float, ...]
    visible: float = math.nan
    error: float = math.nan
    freedom: int = 0

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 1."""
        return not self.low <= 1 <= self.high

    @property
    def too_noisy(self) -> bool:
        """Whether no difference was seen, and one of 10 % would probably not have been seen."""
        return not self.differs and self.visible > NOISY

    def __str__(self) -> str:
        """As in "kvlab takes 0.72 of the time (0.70 to 0.75), 28 % quicker"."""
        low, high = digits(self.low), digits(self.high)
        return f"{digits(self.ratio)} of the time ({low} to {high}), {self._in_words()}"

    def _in_words(self) -> str:
        if not self.differs:
            return f"no difference seen{self._unseen()}"
        if self.ratio < 1:
            much = f"{1 / self.ratio:.3g} times as quick"
            return much if self.ratio < 0.5 else f"{1 - self.ratio:.0%} quicker".replace("%", " %")
        much = f"{self.ratio:.3g} times as slow"
        return much if self.ratio > 2 else f"{self.ratio - 1:.0%} slower".replace("%", " %")

    def _unseen(self) -> str:
        """What a run that saw no difference could have seen."""
        if math.isnan(self.visible):
            return ""
        if math.isinf(self.visible):
            return "; too few turns to tell any"
        much = f"{self.visible - 1:.0%}".replace("%", " %")
        if self.visible > 2:
            much = f"{self.visible:.3g} times"
        if self.too_noisy:
            return f"; too noisy to tell less than {much}"
        return f"; four of five such runs see {much}"


def digits(ratio: float) -> str:
    """A ratio for people: two places, or three digits where it is far from 1."""
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

    ``seed``: of the order within the turns. ``seconds``: the time limit of :func:`in_turns`. The
    other arguments are those of :func:`ratio_over_turns`.
    """
    whole("turns", turns, 2)
    function("a", a)
    function("b", b)
    _check_rest(confidence, measure)
    taken = in_turns({"a": a, "b": b}, turns=turns, warmup=warmup, seconds=seconds, seed=seed)
    return ratio_over_turns(taken["a"], taken["b"], confidence=confidence, measure=measure)


def ratio_over_turns(
    a: Sequence[Measured],
    b: Sequence[Measured],
    *,
    confidence: float = 0.95,
    measure: Callable[[Measured], float] = median_latency,
) -> Comparison:
    """Compare what the same turns measured of ``a`` and of ``b``.

    ``measure`` makes a number of what a turn measured, by default the median latency in seconds.
    Results of :func:`in_turns` know the order within each turn. Any other sequence is taken as
    measured in random order. Two turns give no interval: it goes from 0 to infinity.
    """
    _check_rest(confidence, measure)
    items("a", a)
    items("b", b)
    if len(a) != len(b) or len(a) < 2:
        raise InvalidArgument(f"a and b need the same turns, at least 2: got {len(a)} and {len(b)}")
    above = [real("a's measure", measure(one), 0, above=True) for one in a]
    below = [real("b's measure", measure(one), 0, above=True) for one in b]
    logs = [math.log(one / other) for one, other in zip(above, below, strict=True)]
    middle, error, freedom = _fitted(logs, _steps(a, b))
    return _stated(middle, error, freedom, confidence, tuple(above), tuple(below))


def change(new: Comparison, old: Comparison, *, confidence: float = 0.95) -> Comparison:
    """The ratio of two ratios that were measured apart, with its interval (Welch's t).

    As ``new`` over ``old``: 1.2 means that a takes 1.2 times as long, measured by b, as in the
    older comparison.
    """
    instance("new", new, Comparison, "a Comparison")
    instance("old", old, Comparison, "a Comparison")
    real("confidence", confidence, 0.5, 1)
    middle = math.log(new.ratio / old.ratio)
    if not (new.freedom and old.freedom):
        return _stated(middle, math.inf, 0, confidence, new.a, old.a)
    error = math.hypot(new.error, old.error)
    parts = sum(one.error**4 / one.freedom for one in (new, old))
    freedom = int(error**4 / parts) if parts else new.freedom
    return _stated(middle, error, freedom, confidence, new.a, old.a)


def _stated(
    middle: float,
    error: float,
    freedom: int,
    confidence: float,
    a: tuple[float, ...],
    b: tuple[float, ...],
) -> Comparison:
    """A ratio by its logarithm, with the interval that the error leaves."""
    reach = visible = math.inf
    if freedom:
        reach = student_t((1 + confidence) / 2, freedom) * error
        visible = reach + student_t(POWER, freedom) * error
    low, high = (_exp(middle + side) for side in (-reach, reach))
    return Comparison(math.exp(middle), low, high, confidence, a, b, _exp(visible), error, freedom)


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _steps(a: Sequence[Measured], b: Sequence[Measured]) -> list[float]:
    """By turn, how many places ``a`` came after ``b``; zeros where the order is not known."""
    if isinstance(a, Taken) and isinstance(b, Taken):
        return [one - other for one, other in zip(a.places, b.places, strict=True)]
    return [0.0] * len(a)


def _fitted(logs: Sequence[float], steps: Sequence[float]) -> tuple[float, float, int]:
    """The mean log ratio without the effect of the order, its standard error, and the freedom.

    Least squares of ``mean + effect · steps``; the mean alone where the order never changed, or
    where there are too few turns for both. Freedom 0: two turns leave no error to estimate.
    """
    n, mean, step = len(logs), fmean(logs), fmean(steps)
    spread = sum((one - step) ** 2 for one in steps)
    both = n > 3 and spread > 0
    effect = 0.0
    if both:
        effect = sum((s - step) * (y - mean) for s, y in zip(steps, logs, strict=True)) / spread
    middle = mean - effect * step if both else mean
    if n < 3:
        return middle, math.inf, 0
    freedom = n - 2 if both else n - 1
    left = (y - mean - effect * (s - step) for s, y in zip(steps, logs, strict=True))
    variance = sum(one * one for one in left) / freedom
    return middle, math.sqrt(variance * (1 / n + (step**2 / spread if both else 0))), freedom


def _check_rest(confidence: float, measure: Callable[[Measured], float]) -> None:
    real("confidence", confidence, 0.5, 0.999)
    function("measure", measure)
