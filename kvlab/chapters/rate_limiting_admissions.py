"""What limiters let through: a crowd past one gate, bursts replayed, promises of a wait watched.

Limiters and executors come in from outside; no pattern is imported. Times are seconds of one
clock, best the server's (``at`` of a decision).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import redis
from matplotlib.figure import Figure

from kvlab.errors import InvalidArgument
from kvlab.instruments.charts.labels import note
from kvlab.instruments.charts.style import drawing
from kvlab.instruments.faults.client_gate import gated
from kvlab.instruments.palette import FAINT, IDLE, INK, OTHERS

__all__ = ["admitted_past", "bursts", "most_within", "next_edge", "replay", "strips", "watch_waits"]

Floats = npt.NDArray[np.float64]


def admitted_past(
    url: str, command: str, check: Callable[[redis.Redis], bool], *, clients: int = 50
) -> int:
    """How many of ``clients`` are admitted when all stand before ``command`` and go on at once.

    ``check`` makes one request with the client it is given and says whether it was admitted.
    Raises ``TimeoutError`` when somebody does not come to the gate.
    """
    crowd = [gated(url, command) for _ in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        answers = [pool.submit(check, client) for client in crowd]
        arrived = sum(client.gate.reached.wait(20) for client in crowd)
        for client in crowd:
            client.gate.open()
        admitted = sum(answer.result() for answer in answers)
    for client in crowd:
        client.close()
    if arrived < clients:
        raise TimeoutError(f"{arrived} of {clients} clients came to {command} within 20 s")
    return admitted


def bursts(
    count: int,
    *,
    seed: int,
    size: tuple[int, int],
    gap: tuple[float, float],
    spread: float,
) -> Floats:
    """Moments of ``count`` bursts in seconds from 0, rising; the same for the same seed.

    Each burst has from ``size[0]`` to ``size[1]`` requests within ``spread`` seconds, and begins
    between ``gap[0]`` and ``gap[1]`` seconds after the one before.
    """
    draw = np.random.default_rng(seed)
    begins = np.cumsum(draw.uniform(*gap, count))
    sizes = draw.integers(size[0], size[1] + 1, count)
    moments = [b + draw.uniform(0, spread, n) for b, n in zip(begins, sizes, strict=True)]
    return np.sort(np.concatenate(moments))


def next_edge(client: Any, window: float) -> float:
    """Return when a window of the server's clock begins: its start, in Unix seconds."""
    seconds, micros = client.time()
    now = seconds + micros / 1e6
    edge = (now // window + 1) * window
    time.sleep(edge - now)
    return float(edge)


def replay(kv: Any, ops: Callable[[], Sequence[Any]], moments: npt.ArrayLike) -> list[list[Any]]:
    """Run ``ops()`` in one round trip at each moment (seconds from now); the answers, op by op.

    An open loop of one caller: what is due while it waits for an answer starts late.
    """
    begin, answers = time.perf_counter(), []
    for moment in np.asarray(moments, np.float64):
        time.sleep(max(0.0, begin + float(moment) - time.perf_counter()))
        answers.append(kv.run(list(ops())))
    return [list(answer) for answer in zip(*answers, strict=True)]


def watch_waits(
    kv: Any, limiters: Mapping[str, Any], key: str, *, fill: int, cost: int
) -> list[tuple[str, float, float, float]]:
    """Whether ``retry_after`` is true: (name, promised s, last "no" ms, first "yes" ms).

    Uses up ``fill`` units of ``key``, is denied ``cost`` more, and peeks without a pause until all
    say yes. Milliseconds are of the server's clock from the moment promised: a true promise has
    its last "no" below 0 and its first "yes" at 0 or above.
    """
    kv.run([limiter.hit(key, fill) for limiter in limiters.values()])
    looks = [kv.run([limiter.hit(key, cost) for limiter in limiters.values()])]
    if any(decision.allowed for decision in looks[0]):
        raise InvalidArgument(f"a cost of {cost} after {fill} was not denied by all")
    while not all(decision.allowed for decision in looks[-1]):
        looks.append(kv.run([limiter.peek(key, cost) for limiter in limiters.values()]))
    rows = []
    for name, seen in zip(limiters, zip(*looks, strict=True), strict=True):
        promised = seen[0].at + seen[0].retry_after
        off = [(round((d.at - promised) * 1e6) / 1e3, d.allowed) for d in seen]
        no, yes = (max(o for o, ok in off if not ok), min(o for o, ok in off if ok))
        rows.append((name, seen[0].retry_after, no, yes))
    return rows


def most_within(times: npt.ArrayLike, seconds: float) -> int:
    """The most ``times`` that any half-open interval of ``seconds`` holds; 0 of none."""
    moments = np.sort(np.round(np.asarray(times, np.float64) * 1e6).astype(np.int64))
    width = round(seconds * 1e6)
    inside = np.arange(1, len(moments) + 1) - np.searchsorted(moments, moments - width, "right")
    return int(inside.max(initial=0))


def strips(
    asked: npt.ArrayLike,
    admitted: Mapping[str, npt.ArrayLike],
    window: float,
    *,
    title: str,
) -> Figure:
    """A row of ticks for each limiter: every request faint, the admitted ones in colour.

    ``asked`` and ``admitted`` in seconds from a window's edge; dotted lines stand at the edges.
    At the right: the number admitted, and the most within one ``window``.
    """
    requests = np.asarray(asked, np.float64)
    if not len(requests) or not admitted:
        raise InvalidArgument("strips need at least one request and one limiter")
    rows = len(admitted)
    with drawing(title) as (figure, axes):
        end = float(requests.max()) * 1.02
        for edge in np.arange(0, end, window):
            axes.axvline(edge, color=FAINT, lw=1, linestyle=":", zorder=1)
        for i, times in enumerate(admitted.values()):
            at, shade = rows - 1 - i, OTHERS[i % len(OTHERS)]
            axes.vlines(requests, at - 0.36, at + 0.36, color=IDLE, lw=1.0, zorder=2)
            axes.vlines(np.asarray(times), at - 0.36, at + 0.36, color=shade, lw=1.4, zorder=3)
            count = len(np.asarray(times))
            axes.annotate(
                f"{count} admitted,\n{most_within(times, window)} within {window:g} s", (1, at),
                xycoords=("axes fraction", "data"), xytext=(8, 0), textcoords="offset points",
                va="center", color=INK, fontsize=10.5, annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(rows), list(admitted)[::-1])
        axes.tick_params(axis="y", length=0)
        axes.grid(False)
        axes.set(xlabel="seconds of the server's clock", xlim=(0, end), ylim=(-0.6, rows - 0.4))
        note(axes, f"grey: {len(requests)} requests    colour: admitted    dots: window edges")
    return figure
