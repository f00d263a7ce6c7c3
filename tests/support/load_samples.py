"""Load runs that never happened: simulated from a seed, with no clock and no server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kvlab.instruments.measure.recorder import Recorder
from kvlab.load.rate_limiter.settings import LimiterSettings
from kvlab.load.record.parts import Fault, Finding, Generator
from kvlab.load.record.run import LoadRun

MACHINE = {
    "python": "3.11.9",
    "os": "Linux",
    "machine": "x86_64",
    "cpus": 2,
    "redis_py": "8.1.0",
    "kvlab": "0.1.0",
    "engine": "Valkey",
    "engine_version": "9.1.2",
}
_SETTINGS: dict[str, Any] = {
    "users": 20, "seconds": 30, "spawn_rate": 20.0, "processes": None, "tags": (),
    "exclude_tags": (), "headless": True, "stop_timeout": 5, "rate": 0.0, "shape": "constant",
    "naive": False, "lose_replies": 0, "fault": (), "app": False, "reports": "", "no_page": True,
}  # fmt: skip
BOUND = "at most the limit in any interval of the window's length"


def sample(
    pattern: str = "rate-limiter",
    *,
    seed: int = 1,
    seconds: float = 30,
    per_second: float = 2000,
    rate: float | None = None,
    users: int = 20,
    naive: bool = False,
    faults: Sequence[Fault] = (),
    untested: str | None = None,
    shape: str = "constant",
    limit: int = 10,
    keys: int = 2,
    processes: int = 1,
) -> LoadRun:
    """A run with a row a second. A call that meets a fault waits until the fault is over.

    Open loop (``rate``): every due call waits. Closed loop: one call per user waits, and nobody
    calls meanwhile.
    """
    draw = np.random.default_rng(seed)
    growth = np.linspace(0.25, 1, int(seconds)) if shape == "step" else np.ones(int(seconds))
    growth = np.ceil(growth * 4) / 4
    expected = (rate or per_second) * growth
    counts = draw.poisson(expected) if rate else draw.normal(expected, expected / 30).astype(int)
    due = np.concatenate([second + np.sort(draw.random(n)) for second, n in enumerate(counts)])
    took = draw.lognormal(np.log(400e-6), 0.35, len(due))
    took += (draw.random(len(due)) < 0.004) * draw.exponential(8e-3, len(due))
    failed = np.zeros(len(due), dtype=bool)
    for fault in faults:
        inside = (due >= fault.at) & (due < fault.at + fault.seconds)
        if rate is None:
            waiting = np.flatnonzero(inside)[:users]
            inside[waiting] = False
            due, took, failed = due[~inside], took[~inside], failed[~inside]
            inside = (due >= fault.at) & (due < fault.at + fault.seconds)
        took[inside] += fault.at + fault.seconds - due[inside]
        if fault.kind in ("cut", "restart"):
            failed[inside] |= draw.random(int(inside.sum())) < 0.5
    answered = np.minimum(due + took, seconds - 1e-9)
    names = ["hit"] if pattern == "rate-limiter" else ["submit", "rank", "around"]
    which = draw.choice(len(names), len(due), p=_shares(len(names)))
    took *= 1 + 0.6 * which
    latency = {name: Recorder() for name in names}
    for i, name in enumerate(names):
        latency[name].record_all(took[which == i])
    errors = {}
    if failed.any():
        errors["OutcomeUnknown: the command was sent and no answer came"] = int(failed.sum())
    return LoadRun(
        pattern=pattern,
        title=f"Rate limiter: {'the naive sliding window' if naive else 'sliding-log'}, "
        f"{limit} per 1 s, {keys} keys"
        if pattern == "rate-limiter"
        else "Leaderboard: 10,000 members, Zipf 1.1",
        settings={
            "algorithm": "sliding-log", "users": users, "rate": rate,
            "shape": shape, "naive": naive, "limit": limit, "window": 1.0, "keys": keys,
            "processes": processes,
        },
        machine=MACHINE,
        began=1_800_000_000.25,
        seconds=seconds,
        timeline=_timeline(answered, took, failed, growth * users, expected if rate else None),
        latency=latency,
        errors=errors,
        faults=tuple(faults),
        findings=_findings(pattern, naive, limit),
        untested=untested,
        stages={"sent to answered": latency[names[0]]} if rate else {},
        generator=Generator(processes, 0.71),
        windows=_windows(draw, int(seconds), keys, limit, naive, faults)
        if pattern == "rate-limiter"
        else None,
    )  # fmt: skip


def flat(rates: Sequence[float], faults: Sequence[Fault] = (), **more: Any) -> LoadRun:
    """A run whose throughput is known: ``rates`` calls in each second."""
    n = len(rates)
    recorder = Recorder()
    recorder.record_all(np.full(int(sum(rates)), 0.001))
    timeline = pd.DataFrame(
        {
            "second": np.arange(n, dtype=float), "users": 20, "calls": rates, "errors": 0,
            "due": np.nan, "p50_us": 1000.0, "p99_us": 1000.0, "p999_us": 1000.0, "max_us": 1000.0,
        }
    )  # fmt: skip
    given: dict[str, Any] = {
        "pattern": "rate-limiter", "title": "Rate limiter: flat", "settings": {"users": 20},
        "machine": MACHINE, "began": 1.8e9, "seconds": float(n), "timeline": timeline,
        "latency": {"hit": recorder}, "faults": tuple(faults),
        "findings": (Finding("admissions", True, BOUND),),
    }  # fmt: skip
    return LoadRun(**(given | more))


def _shares(n: int) -> list[float]:
    return [1.0] if n == 1 else [0.6, 0.3, 0.1]


def _timeline(
    answered: Any, took: Any, failed: Any, users: Any, due: Any
) -> pd.DataFrame:  # numpy arrays, one entry a call; users and due one a second
    rows = []
    for second, n in enumerate(users):
        here = (answered >= second) & (answered < second + 1)
        recorder = Recorder()
        recorder.record_all(took[here])
        marks = [recorder.percentile(p) * 1e6 for p in (50, 99, 99.9)]
        rows.append(
            [float(second), n, here.sum(), failed[here].sum(),
             np.nan if due is None else due[second], *marks, recorder.max * 1e6]
        )  # fmt: skip
    names = ["second", "users", "calls", "errors", "due", "p50_us", "p99_us", "p999_us", "max_us"]
    return pd.DataFrame(rows, columns=names)


def _findings(pattern: str, naive: bool, limit: int) -> tuple[Finding, ...]:
    if pattern == "leaderboard":
        says = "every final score is the sum of its acknowledged submissions; 10,000 looked at"
        ranks = "sampled ranks and neighbours are linearizable; 400 histories, 0 unknown"
        return (Finding("scores", True, says), Finding("ranks", True, ranks))
    most = limit + 9 if naive else limit
    says = f"{BOUND}; the most seen is {most}, the bound {limit}, "
    says += f"admissions too many: {87 if naive else 0}"
    evidence = ("client-1 at 12.000417 s: 19 in 1 s", "client-0 at 3.000102 s: 17 in 1 s")
    admitted = Finding("admissions", not naive, says, evidence if naive else ())
    denials = "nobody was denied who need not be; 61,204 denials looked at"
    return (admitted, Finding("denials", True, denials))


def _windows(
    draw: np.random.Generator,
    seconds: int,
    keys: int,
    limit: int,
    naive: bool,
    faults: Sequence[Fault],
) -> pd.DataFrame:
    rows = []
    for second in range(seconds):
        idle = any(f.at <= second and second + 1 <= f.at + f.seconds for f in faults)
        for key in range(keys):
            extra = int(draw.poisson(2)) if naive and draw.random() < 0.4 else 0
            rows.append([f"client-{key}", float(second), 0 if idle else limit + extra, limit])
    return pd.DataFrame(rows, columns=["key", "second", "admitted", "bound"]).assign(
        busiest=lambda frame: frame["admitted"], busiest_bound=lambda frame: frame["bound"]
    )


def limiter_settings(**more: Any) -> LimiterSettings:
    """The settings of a run of the rate limiter: 2 per second, one key, for 30 s."""
    given = {"algorithm": "sliding-log", "limit": 2, "window": 1.0, "keys": 1, "control": False}
    return LimiterSettings(**(_SETTINGS | given | more))
