"""Repeat a run, and compare two of them side by side.

Machines drift, so two variants are measured in turns (A B A B …) and only the ratio within a turn
counts. The interval says how far the median ratio moves when the turns are drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from kvlab.core.checks import real, whole
from kvlab.instruments.measure.result import Result

Measured = Result | float
RESAMPLES = 10_000


def repeat(n: int, make: Callable[[int], Result]) -> list[Result]:
    """``[make(0), … make(n - 1)]``, each saying that it is one of ``n`` repetitions.

    Give the index to the seed where the repetitions should draw different workloads.
    """
    whole("n", n, 1)
    return [
        replace(result, environment=result.environment | {"repetitions": n})
        for result in (make(i) for i in range(n))
    ]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``ratio`` is the median of a/b over the turns; ``low``…``high`` its bootstrap interval.

    A cost (a latency): below 1 means that a is cheaper.
    """

    ratio: float
    low: float
    high: float
    confidence: float
    a: tuple[float, ...]
    b: tuple[float, ...]

    def __str__(self) -> str:
        return (
            f"{self.ratio:.3g}x ({self.confidence:.0%} interval {self.low:.3g} to {self.high:.3g}, "
            f"{len(self.a)} turns)"
        )


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
) -> Comparison:
    """Measure ``a`` and ``b`` in turns and compare a over b.

    ``warmup`` turns are thrown away. The interval is the percentile bootstrap of the median
    (Efron, 1979) over whole turns, seeded. Fewer than about six turns make it say little.
    """
    whole("turns", turns, 2)
    whole("warmup", warmup, 0)
    real("confidence", confidence, 0.5, 0.999)
    pairs = [(measure(a()), measure(b())) for _ in range(warmup + turns)][warmup:]
    for left, right in pairs:
        real("a's measure", left, 0, above=True)
        real("b's measure", right, 0, above=True)
    ratios = np.array([left / right for left, right in pairs])
    drawn = np.random.default_rng(seed).integers(0, turns, (RESAMPLES, turns))
    medians = np.median(ratios[drawn], axis=1)
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(medians, [tail, 100 - tail])
    return Comparison(
        float(np.median(ratios)),
        float(low),
        float(high),
        confidence,
        tuple(left for left, _ in pairs),
        tuple(right for _, right in pairs),
    )
