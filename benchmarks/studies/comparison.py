"""How often the interval of ``compare`` is wrong, and which differences it sees.

    python -m benchmarks.studies.comparison [--real 200]

Simulated: thousands of comparisons of a command with itself (A/A). A side's time is its mean, times
noise, times what the machine drifts. The interval should exclude 1 in 5 % of them. Then the same
with a side that is slower: the share of the runs that see the difference. ``--real``: so many
comparisons of a redis-py GET with itself on a private Valkey.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from kvlab.instruments import Comparison, compare
from kvlab.server import engines

Noise = Callable[[np.random.Generator], float]
TURNS = (5, 7, 9, 11, 15)
REAL_TURNS = (7, 11)
DRIFTS = (0.0, 0.01, 0.05)
"""The growth of all times in a turn."""
NOISES: dict[str, Noise] = {
    "0.2 %": lambda chance: chance.normal(0, 0.002),
    "2 %": lambda chance: chance.normal(0, 0.02),
    "10 %": lambda chance: chance.normal(0, 0.1),
    "2 %, skew": lambda chance: 0.02 * chance.gamma(2),
    "2 %, 1 in 10 slow": lambda chance: chance.normal(0, 0.02) + 0.3 * (chance.random() < 0.1),
}
"""The logarithm of what noise makes of a time."""


def simulated(
    runs: int, turns: int, *, drift: float, noise: Noise, slower: float = 1.0, seed: int = 0
) -> Iterator[Comparison]:
    """``runs`` comparisons by ``compare`` itself, on a machine that is made of numbers."""
    chance = np.random.default_rng(seed)

    def side(mean: float, made: Iterator[int]) -> float:
        drifted: float = (1 + drift) ** (next(made) / 2)
        return mean * math.exp(noise(chance)) * drifted

    for run in range(runs):
        made = count()
        a, b = partial(side, slower, made), partial(side, 1.0, made)
        yield compare(a, b, turns=turns, warmup=0, seed=run)


def share_that_differs(comparisons: Iterator[Comparison]) -> float:
    """The share of the intervals that exclude 1."""
    return float(np.mean([one.differs for one in comparisons]))


def print_shares(name: str, runs: int, **facts: Any) -> None:
    """Print a line of shares, one for each number of turns."""
    shares = (share_that_differs(simulated(runs, turns, **facts)) for turns in TURNS)
    print(f"{name:34}" + "".join(f"{share:>10.1%}" for share in shares), flush=True)


def median_seconds(call: Callable[[], object], n: int) -> float:
    """Median seconds of ``n`` calls one after the other."""
    times = []
    for _ in range(n):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def print_real(number: int) -> None:
    """Print the share of ``number`` comparisons of a GET with itself."""
    with engines.start("valkey") as server, server.client() as client:
        get = partial(median_seconds, lambda: client.get("k"), 200)
        for turns in REAL_TURNS:
            runs = [compare(get, get, turns=turns, seed=run) for run in range(number)]
            noisy = float(np.mean([one.too_noisy for one in runs]))
            visible = float(np.median([one.visible for one in runs])) - 1
            print(
                f"GET on Valkey, {turns} turns: {share_that_differs(iter(runs)):.1%} of {number} "
                f"exclude 1; {noisy:.0%} say too noisy; half would see {visible:.1%} or less",
                flush=True,
            )


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2_000, help="simulated comparisons of each row")
    parser.add_argument("--real", type=int, default=0, help="comparisons on a private Valkey")
    given = parser.parse_args()
    print(f"share of the intervals that exclude 1, {given.runs:,} runs each")
    print(f"{'':34}" + "".join(f"{f'{turns} turns':>10}" for turns in TURNS))
    for name, noise in NOISES.items():
        for drift in DRIFTS:
            label = f"A/A, noise {name}, drift {drift:.0%}"
            print_shares(label, given.runs, drift=drift, noise=noise)
    for slower in (1.05, 1.1):
        label = f"{slower - 1:.0%} slower, noise 2 %, drift 1%"
        print_shares(label, given.runs, drift=0.01, noise=NOISES["2 %"], slower=slower)
    if given.real:
        print_real(given.real)


if __name__ == "__main__":
    main()
