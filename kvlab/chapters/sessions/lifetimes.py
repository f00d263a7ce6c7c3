"""How long people stay logged in: the formula, and a count of the sessions that are alive.

People use a site at random moments (Poisson), ``mean_gap`` seconds apart on average. An idle
timeout ends a session at the first longer pause, an absolute timeout ends it at an age.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from kvlab import Key, Kv, NaiveSessions, Op, SessionStore
from kvlab.core.checks import real, whole
from kvlab.instruments.measure.calls import Clock

Floats = npt.NDArray[np.float64]
STEPS = 400
"""Steps of the integral in one idle timeout."""
COUNT = -1
"""Stands for no user in a plan: it is time to count."""


def still_in(
    ages: npt.ArrayLike, *, mean_gap: float, idle: float, absolute: float = math.inf
) -> Floats:
    """The share of sessions that are alive at these ages. All arguments are seconds.

    A user who is in at age t - idle, uses the site then and not again, is out at t. With rate λ
    and idle timeout T that gives S(t) = 1 - e^(-λT) (1 + λ ∫ S from 0 to t - T), and 1 before T.
    """
    rate = 1 / real("mean_gap", mean_gap, 0, above=True)
    real("idle", idle, 0, above=True)
    at = np.asarray(ages, dtype=np.float64)
    step = idle / STEPS
    count = max(math.ceil(min(float(at.max(initial=0.0)), absolute) / step), STEPS) + 2
    alive, area = np.ones(count), np.zeros(count)
    for i in range(1, count):
        if i >= STEPS:
            alive[i] = 1 - math.exp(-rate * idle) * (1 + rate * area[i - STEPS])
        area[i] = area[i - 1] + step * (alive[i - 1] + alive[i]) / 2
    # The drop at T is a step. Interpolation would make it a slope.
    found = np.where(at < idle, 1.0, np.interp(at, np.arange(count) * step, alive))
    return np.where(at < absolute, np.clip(found, 0.0, 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class Habit:
    """How people use a site, and when their sessions end. All numbers are seconds.

    ``absolute`` holds for the hardened store; the naive store has no absolute timeout.
    """

    mean_gap: float
    idle: float
    absolute: float


@dataclass(frozen=True, slots=True)
class Users:
    """Some users of one store.

    ``read(user)`` uses the site and returns whether the user is in. ``alive()`` counts the live
    sessions and prolongs none.
    """

    read: Callable[[int], bool]
    alive: Callable[[], int]


def watch_both(
    kv: Kv, habit: Habit, *, users: int, seconds: float, every: float, seed: int
) -> pd.DataFrame:
    """:func:`watch` of the naive and of the hardened store, with a new session for each user."""
    naive = NaiveSessions(kv.client, ttl=math.ceil(habit.idle), prefix=kv.prefix)
    store = SessionStore("timed", idle=habit.idle, absolute=habit.absolute)
    naive_ids = [naive.create(user) for user in range(users)]
    hardened_ids = [s.id for s in kv.run([store.create(user) for user in range(users)])]
    still_there: list[Op[int]] = [Op("EXISTS", Key(f"session:{sid}")) for sid in naive_ids]
    stores = {
        "naive": Users(
            read=lambda user: naive.read(naive_ids[user]) is not None,
            alive=lambda: sum(kv.run(still_there)),
        ),
        "hardened": Users(
            read=lambda user: kv.run(store.read(hardened_ids[user])) is not None,
            alive=lambda: sum(map(len, kv.run([store.list(user) for user in range(users)]))),
        ),
    }
    return watch(
        stores, users=users, mean_gap=habit.mean_gap, seconds=seconds, every=every, seed=seed
    )


def watch(
    stores: Mapping[str, Users],
    *,
    users: int,
    mean_gap: float,
    seconds: float,
    every: float,
    seed: int,
    clock: Clock | None = None,
) -> pd.DataFrame:
    """Let the same users read at the same moments from every store, and count who is in.

    The sessions must be new. This is an open loop: the moments are drawn in advance. A user who
    is out reads no more. Columns ``store``, ``age`` (seconds, when counted) and ``alive`` (share);
    ``attrs["late"]`` is the longest delay of a read in seconds.
    """
    tick = clock or Clock()
    inside = {store: set(range(whole("users", users, 1))) for store in stores}
    rows, late, start = [], 0.0, tick.now()
    for due, user in _plan(users, mean_gap, seconds, every, seed):
        tick.wait_until(start + due)
        late = max(late, tick.now() - start - due)
        for name, store in stores.items():
            if user == COUNT:
                rows.append((name, tick.now() - start, store.alive() / users))
            elif user in inside[name] and not store.read(user):
                inside[name].discard(user)
    frame = pd.DataFrame(rows, columns=["store", "age", "alive"])
    frame.attrs["late"] = late
    return frame


def _plan(
    users: int, mean_gap: float, seconds: float, every: float, seed: int
) -> list[tuple[float, int]]:
    """When each user reads, and when the sessions are counted, in order of time."""
    draw = np.random.default_rng(seed)
    real("every", every, 0.001)
    plan = [(float(moment), COUNT) for moment in np.arange(every / 2, seconds, every)]
    for user in range(users):
        gaps = draw.exponential(mean_gap, max(10, math.ceil(4 * seconds / mean_gap)))
        plan += [(float(moment), user) for moment in np.cumsum(gaps) if moment < seconds]
    return sorted(plan)
