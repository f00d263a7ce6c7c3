"""One round of a run, in a process of its own: a turn goes through every case, then the next turn.

So each row's turns lie all over the round, and what disturbs the machine for a second disturbs one
turn of a row. A run has several rounds, because a process has its own luck: where its memory lies,
and the seed of its hashes.

Client and server share one core (``Cores``), so that no core sleeps between a request and its
reply. A core that sleeps takes its time to wake, in a virtual machine as long as a round trip on
loopback; a core on which anything else runs does not sleep. So the ratio of two clients would
depend on the machine's other work. A long case, which may have many clients, has all cores.

    python -m kvlab.bench.round    reads its settings, one line of JSON; then says, a line for each
                                   JSON object, what was done and what the turns measured
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import islice
from typing import Any

from kvlab import Key, Op
from kvlab.bench.case import Bench, Case, Peer, cleared, opened
from kvlab.bench.run import CONTROL, Row, Turn
from kvlab.instruments.measure.machine import environment
from kvlab.instruments.measure.turns import orders
from kvlab.server import engines

LONG_EVERY = 16
"""A long case takes part in every so many turns."""
PATIENCE = 3
"""A case whose turns fail so often in a round fails its benchmark."""
OURS = ""
"""The name of our side among the sides of a case; no peer has it."""
Say = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """``number``: of the round. ``pieces``: of a turn, each a few calls a side.

    ``url``: a server, or empty for a private one of this round.
    """

    benchmarks: tuple[str, ...]
    number: int
    turns: int
    pieces: int
    seed: int
    short: bool
    url: str = ""


def controls(bench: Bench) -> Iterator[Case]:
    """The same code twice, by every kind of client: what differs here is noise."""
    get: Op[Any] = Op("GET", Key("control"))

    def by_hand() -> object:
        return bench.kv.client.get("control")

    def ours() -> object:
        return bench.kv.run(get)

    for name, call in (("kvlab's GET", ours), ("redis-py's GET", by_hand)):
        what = "the same code twice: what differs here is the machine's noise"
        peers = {"itself": Peer(bench.calls(call))}
        yield Case(name, what, bench.calls(call), peers, subject="the same code")


def undisturbed(times: Sequence[float]) -> float:
    """The lower quartile: a busy machine only ever adds to the time of a call.

    Six digits: the clock has no more, and a run that is kept has thousands of turns.
    """
    return float(f"{sorted(times)[len(times) // 4]:.6g}")


class Cores:
    """This process, and each that it starts, gets one core; which one is drawn.

    Where the system has no such call (macOS), client and server run on any core.
    """

    def __init__(self, chance: random.Random) -> None:
        self._all: set[int] = set()
        if hasattr(os, "sched_setaffinity"):
            self._all = os.sched_getaffinity(0)
            self._one = {chance.choice(sorted(self._all))}
            os.sched_setaffinity(0, self._one)

    def __str__(self) -> str:
        return "client and server share one core" if self._all else "any core for client and server"

    @contextmanager
    def all(self) -> Iterator[None]:
        """All cores, for us and what we start inside the block. A server keeps its core."""
        if not self._all:
            yield
            return
        os.sched_setaffinity(0, self._all)
        try:
            yield
        finally:
            os.sched_setaffinity(0, self._one)


class Measured:
    """A case of a benchmark, its turns so far, and the order of its sides in the next turn."""

    def __init__(self, benchmark: str, case: Case, seed: int) -> None:
        self.benchmark, self.case = benchmark, case
        self.lost = 0
        self._measures = {OURS: case.ours} | {n: peer.measure for n, peer in case.peers.items()}
        self._orders = orders(self._measures, seed)
        self._turns: dict[str, list[Turn]] = {name: [] for name in case.peers}

    def warm_up(self) -> None:
        """A piece of each side."""
        for measure in self._measures.values():
            measure()

    def take(self, round_: int, number: int, pieces: int) -> None:
        """One turn: the sides change ``pieces`` times."""
        times: dict[str, list[float]] = {name: [] for name in self._measures}
        places = dict.fromkeys(self._measures, 0)
        for order in islice(self._orders, pieces):
            for place, name in enumerate(order):
                times[name] += self._measures[name]()
                places[name] += place
        for name, turns in self._turns.items():
            both = undisturbed(times[OURS]), undisturbed(times[name])
            turns.append(Turn(round_, number, *both, (places[OURS] - places[name]) / pieces))

    def rows(self) -> Iterator[Row]:
        """A row a peer."""
        case = self.case
        for name, peer in case.peers.items():
            facts = name, peer.version, peer.less, tuple(self._turns[name])
            yield Row(self.benchmark, case.name, case.what, case.subject, *facts)


def play(settings: Settings, say: Say) -> None:
    """Measure the round, and say what was done."""
    chance = random.Random(settings.seed)
    cores = Cores(chance)
    with ExitStack() as stack:
        url = settings.url or stack.enter_context(engines.start("valkey")).url
        runner = stack.enter_context(asyncio.Runner())
        measured, absent = list[Measured](), list[str]()
        for name in (CONTROL, *settings.benchmarks):
            kv = stack.enter_context(opened(url))
            stack.callback(cleared, kv)
            bench = Bench(url, kv, stack, runner, settings.short, absent)
            try:
                make = controls if name == CONTROL else import_module(f"benchmarks.{name}").cases
                found = [Measured(name, case, chance.randrange(2**32)) for case in make(bench)]
                for one in found:
                    if not one.case.long:
                        one.warm_up()
                measured += found
            except Exception as problem:
                traceback.print_exc()
                say({"failed": name, "why": f"{type(problem).__name__}: {problem}"})
        say({"environment": environment(kv) | {"cores": str(cores)}, "absent": absent})
        _take_turns(measured, settings, chance, cores, say)
        for one in measured:
            for row in one.rows():
                say({"row": asdict(row)})


def _take_turns(
    measured: list[Measured], settings: Settings, chance: random.Random, cores: Cores, say: Say
) -> None:
    """Each turn goes through all cases, in an order of its own."""
    todo = [
        (turn, one)
        for turn in range(settings.turns)
        for one in chance.sample(measured, len(measured))
        if not one.case.long or turn % LONG_EVERY == 0
    ]
    gc.collect()
    gc.freeze()  # what was opened so far costs no collection during a turn
    for done, (turn, one) in enumerate(todo, start=1):
        began = time.perf_counter()
        if one.lost < PATIENCE:
            with cores.all() if one.case.long else nullcontext():
                _turn_of(one, settings, turn, say)
        say({"done": done, "of": len(todo), "seconds": time.perf_counter() - began})


def _turn_of(one: Measured, settings: Settings, turn: int, say: Say) -> None:
    """A turn; on a busy machine a call may time out, which costs the turn and not the run."""
    try:
        one.take(settings.number, turn, 1 if one.case.long else settings.pieces)
    except Exception as problem:
        traceback.print_exc()
        one.lost += 1
        why = f"{type(problem).__name__}: {problem}"
        say({"lost": one.benchmark, "case": one.case.name, "why": why})
        if one.lost == PATIENCE:
            say({"failed": one.benchmark, "why": f"{one.case.name}: {why}"})


def main() -> None:
    """Play the round that the first line of input describes. The process ends when its input ends.

    It ends in order by SIGTERM alone, which its parent sends after Ctrl-C too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    settings = Settings(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a peer prints must not stand among our lines

    def say(facts: Mapping[str, Any]) -> None:
        lines.write(json.dumps(facts) + "\n")
        lines.flush()

    play(settings, say)


def _end_with_parent() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
