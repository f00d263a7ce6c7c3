"""Whether the load generator tells the truth about latencies, calls and errors.

    python -m benchmarks.studies.load_truth

A proxy in front of a private Valkey holds each hit (a constant time; 50 ms for 1 % of the hits; one
stall of a second) and notes when it arrived and when its reply left. Each is loaded in a closed and
in an open loop, by one process and by two. The generator's "sent to answered" must be the proxy's
own record, up to ``WITHIN`` and the lateness that the generator states of itself at the same
percentile. Counts and sums must be exact. The exit code is 1 when one of them is not, and when the
machine was too busy to tell: then the proxy was late itself.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import kvlab
from kvlab.instruments import Recorder
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.faults.resp import Command
from kvlab.load.command import record
from kvlab.load.record.parts import ANSWERED, LATE, WAITED
from kvlab.load.record.run import LoadRun
from kvlab.server import engines

SECONDS = 4
USUAL, SLOW, STALL_AT, STALL = 0.005, 0.05, 1.5, 1.0
"""Seconds."""
RATE = 300.0
LOADS: dict[str, dict[str, Any]] = {"closed": {"users": 4}, "open": {"users": 20, "rate": RATE}}
WITHIN = {50.0: 0.0003, 99.0: 0.005, 99.9: 0.01, 100.0: 0.01}
"""Seconds by percentile."""
TOO_BUSY = 0.001
"""Half of the hits left the proxy later than they should by so many seconds."""


Hold = Callable[[float], float]
"""The seconds for which a hit is held that came so many seconds after the first hit."""


def constant(_: float) -> float:
    return USUAL


def one_in_a_hundred(since: float) -> float:
    """The last digits of a microsecond are chance enough."""
    return SLOW if int(since * 1e6) % 100 == 0 else USUAL


def stall(since: float) -> float:
    return max(USUAL, STALL_AT + STALL - since) if since >= STALL_AT else USUAL


HOLDS = {"constant": constant, "1 % of 50 ms": one_in_a_hundred, "stall of 1 s": stall}


def is_hit(command: Command) -> bool:
    """Whether a user sent it: other scripts of a run have other keys."""
    return command.name == "EVALSHA" and b"client-" in command.raw


@dataclass
class Seen:
    """What the proxy does to hits, and what it has seen of them: when each arrived and left."""

    hold: Hold
    first: float | None = None
    spans: list[tuple[float, float]] = field(default_factory=list)

    def delay(self, command: Command) -> float:
        if not is_hit(command):
            return 0.0
        now = time.time()
        if self.first is None:
            self.first = now
        return self.hold(now - self.first)

    def watch(self, command: Command, arrived: float, left: float) -> None:
        if is_hit(command):
            self.spans.append((arrived, left))

    def of(self, run: LoadRun) -> Recorder:
        """The proxy's times of the hits of a run, without those of its warm-up."""
        assert run.generator is not None
        recorder = Recorder()
        hits = sorted(self.spans)[run.generator.warm_up :]
        recorder.record_all([left - arrived for arrived, left in hits])
        return recorder


def exact(run: LoadRun, proxy: Recorder) -> Iterator[str]:
    """What is not as it must be, to the last call."""
    rows, counted = run.timeline, sum(one.count for one in run.latency.values())
    calls = {"the proxy": proxy.count, "the timeline": int(rows["calls"].sum()), "all": counted}
    if len({*calls.values()}) > 1:
        yield f"calls differ: {calls}"
    if run.errors or rows["errors"].any():
        yield f"errors without a fault: {run.errors}"
    if not run.holds:
        yield f"the run says {run.verdict}"
    if run.open_loop:
        due = RATE * run.seconds
        if not abs(rows["due"].sum() - due) < 5 * due**0.5:
            yield f"{rows['due'].sum():g} calls were due, not about {due:g}"
        parts = run.stages[WAITED].mean + run.stages[ANSWERED].mean
        if abs(parts - run.latency_all.mean) > 1e-6:
            yield f"the stages come to {parts:g} s, the latency is {run.latency_all.mean:g} s"


def differences(run: LoadRun, proxy: Recorder) -> Iterator[tuple[str, bool]]:
    """Each percentile of the generator beside the proxy's, and whether it is within bounds."""
    mine = run.stages[ANSWERED] if run.open_loop else run.latency_all
    for percent, within in WITHIN.items():
        stated = run.stages[LATE].percentile(percent)
        more = mine.percentile(percent) - proxy.percentile(percent)
        name = "max" if percent == 100 else f"p{percent:g}"
        text = f"{name} {proxy.percentile(percent) * 1e3:.2f} {more * 1e3:+.2f} (±"
        yield f"{text}{(within + stated) * 1e3:.2f})", abs(more) <= within + stated


def judged(hold: Hold, processes: int, load: dict[str, Any], url: str) -> tuple[str, str]:
    """``true``, ``FALSE`` or ``TOO BUSY``, and a run in one line."""
    seen = Seen(hold)
    with Proxy(url) as proxy:
        proxy.hold(seen.delay)
        proxy.watch(seen.watch)
        more = load | ({"processes": processes} if processes > 1 else {})
        run = record("rate-limiter", seconds=SECONDS, host=proxy.url, **more)
    times = seen.of(run)
    each, wrong = [*differences(run, times)], [*exact(run, times)]
    line = f"{run.calls:,} calls; " + ", ".join(text for text, _ in each)
    text = "; ".join([line, *wrong])
    if not wrong and times.percentile(50) > USUAL + TOO_BUSY:
        return "TOO BUSY", text
    return "true" if not wrong and all(good for _, good in each) else "FALSE", text


def main() -> None:
    """Run the benchmark."""
    print(f"{SECONDS} s each; ms of the proxy, what the generator says more, what it may say")
    is_true = True
    with engines.start("valkey") as server:
        with kvlab.connect(server.url) as kv:  # the script is there before a run counts its calls
            kv.run(kvlab.SlidingWindowLog("load", 10, 1.0).hit("bare"))
        for (name, hold), processes, loop in product(HOLDS.items(), (1, 2), LOADS):
            verdict, line = judged(hold, processes, LOADS[loop], server.url)
            print(f"{verdict}: {name}, {loop}, {processes} process(es): {line}", flush=True)
            is_true &= verdict == "true"
    sys.exit(not is_true)


if __name__ == "__main__":
    main()
