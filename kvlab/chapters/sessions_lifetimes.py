"""How long people stay logged in: the formula, two measurements, and a figure.

People use a site at random moments (Poisson), ``mean_gap`` seconds apart on average. An idle
timeout ends a session at its first longer gap, an absolute one at its age.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import label_right, note
from kvlab.instruments.charts.style import MARKERS, colour, drawing
from kvlab.instruments.measure.experiment import Clock
from kvlab.instruments.palette import COLOURS

Floats = npt.NDArray[np.float64]
STEPS = 400  # of the integral, in one idle timeout


def still_in(
    ages: npt.ArrayLike, *, mean_gap: float, idle: float, absolute: float = math.inf
) -> Floats:
    """Share of sessions that live at these ages (s). All arguments are seconds.

    Who is in at age t - idle, uses the site then and not again, is out at t. With rate λ and idle
    timeout T that gives S(t) = 1 - e^(-λT) (1 + λ ∫ S from 0 to t - T), and 1 before T.
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
    # the drop at T is a step, which interpolation would make a slope
    found = np.where(at < idle, 1.0, np.interp(at, np.arange(count) * step, alive))
    return np.where(at < absolute, np.clip(found, 0.0, 1.0), 0.0)


@dataclass(frozen=True, slots=True)
class Users:
    """Some users of one store: ``read(user)`` uses the site and says whether it let the user in;
    ``alive()`` counts the live sessions and prolongs none."""

    read: Callable[[int], bool]
    alive: Callable[[], int]


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
    """Let the same users read at the same moments from every store; count who is in.

    Sessions are new when it is called. Open loop: the moments are drawn in advance. Who is out
    reads no more. Returns columns ``store``, ``age`` (s, when counted) and ``alive`` (share);
    ``attrs["late"]`` is the longest delay (s) of a reading.
    """
    whole("users", users, 1)
    draw, tick = np.random.default_rng(seed), clock or Clock()
    plan = [(float(t), -1) for t in np.arange(every / 2, seconds, real("every", every, 0.001))]
    for user in range(users):
        gaps = draw.exponential(mean_gap, max(10, math.ceil(4 * seconds / mean_gap)))
        plan += [(float(t), user) for t in np.cumsum(gaps) if t < seconds]
    inside = {store: set(range(users)) for store in stores}
    rows, late, start = [], 0.0, tick.now()
    for due, user in sorted(plan):
        tick.wait_until(start + due)
        late = max(late, tick.now() - start - due)
        for name, store in stores.items():
            if user < 0:
                rows.append((name, tick.now() - start, store.alive() / users))
            elif user in inside[name] and not store.read(user):
                inside[name].discard(user)
    frame = pd.DataFrame(rows, columns=["store", "age", "alive"])
    frame.attrs["late"] = late
    return frame


def logins(shop: Any, *, users: int, seed: int) -> tuple[Callable[[int], str], set[str]]:
    """Requests of ``users`` to a site with sessions, a subject for an experiment, and a set.

    Of 100 requests some 70 read, 27 update, 3 log out and in again. ``shop`` has ``create(user)``,
    which returns an id, ``read(id)``, ``update(id)`` and ``destroy(id)``. The set collects the ids
    that were logged out: none of them may work any more. Outcomes are the names of the calls.
    """
    draw, ended = random.Random(seed), set()
    ids = [shop.create(user) for user in range(whole("users", users, 1))]

    def request(user: int) -> str:
        sid, kind = ids[user], draw.choices(("read", "update", "destroy"), (70, 27, 3))[0]
        if kind == "destroy":
            ids[user] = shop.create(user)
            ended.add(sid)
        getattr(shop, kind)(sid)
        return kind

    return request, ended


def lifetimes(
    curves: Mapping[str, tuple[Floats, Floats]],
    *,
    title: str,
    measured: pd.DataFrame | None = None,
    unit: str = "s",
    remark: str | None = None,
) -> Figure:
    """Share of sessions alive by age: a line per curve (ages, shares), points where measured.

    ``measured`` has the columns of ``watch``. Line and points of one name share its colour.
    """
    if not curves:
        raise InvalidArgument("give at least one curve")
    with drawing(title) as (figure, axes):
        labels = []
        for i, (name, (ages, shares)) in enumerate(curves.items()):
            shade = colour(name, i)
            if measured is None:
                axes.plot(ages, shares, color=shade, ls="-" if i == 0 else "--")
            else:
                rows = measured[measured["store"] == name]
                marker = MARKERS[i % len(MARKERS)]
                # the first open and large, so that a point on the same place stays visible
                look: Any = {"ms": 11, "mfc": "none", "mew": 2} if i == 0 else {"ms": 6}
                axes.plot(rows["age"], rows["alive"], marker, color=shade, **look)
                axes.plot(ages, shares, color=COLOURS["theory"], lw=1.3, dashes=(5, 2), zorder=4)
            labels.append((float(shares[-1]), name, shade))
        axes.margins(x=0.02)
        axes.set_ylim(-0.03, 1.08)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set(xlabel=f"age of the session ({unit})", ylabel="sessions alive")
        if remark:
            note(axes, remark)
        label_right(axes, labels)
    return figure
