"""Plays the rounds of a run, each in a process of its own, and puts their rows together."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kvlab.bench.round import Settings
from kvlab.bench.run import BenchRun, Row, Turn
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.instruments.measure.turns import FEWEST
from kvlab.instruments.progress import progress_bar

ROUNDS, TURNS, PIECES = 6, 32, 14
SHORT_ROUNDS, SHORT_TURNS, SHORT_PIECES = 4, 8, 14
_SAID_EVERY = 10.0
"""Seconds between two lines of progress where no bar can be shown."""
_LEAVING = 10.0
"""Seconds in which a round that we end may remove its keys."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. ``root``: the folder that holds ``benchmarks/``."""

    root: Path
    benchmarks: tuple[str, ...]
    short: bool = False
    url: str = ""
    seed: int = 1

    @property
    def rounds(self) -> list[Settings]:
        """Each round has a seed of its own."""
        chance = random.Random(self.seed)
        count, turns, pieces = ROUNDS, TURNS, PIECES
        if self.short:
            count, turns, pieces = SHORT_ROUNDS, SHORT_TURNS, SHORT_PIECES
        one = Settings(self.benchmarks, 0, turns, pieces, 0, self.short, self.url)
        return [replace(one, number=i, seed=chance.randrange(2**32)) for i in range(count)]


def known(root: Path) -> list[str]:
    """The benchmarks by name, as load tests write theirs: with ``-``."""
    return sorted(shown(path.stem) for path in (root / "benchmarks").glob("[a-z]*.py"))


def shown(name: str) -> str:
    """A benchmark's name for people; its module has ``_`` for ``-``."""
    return name.replace("_", "-")


def plan(root: Path, names: Sequence[str], *, short: bool, url: str, seed: int) -> Plan:
    """The plan for the named benchmarks, all without a name; ``InvalidArgument`` for others."""
    there, chosen = known(root), [shown(name) for name in names]
    if unknown := sorted({*chosen} - {*there}):
        raise InvalidArgument(f"no benchmark {', '.join(unknown)}; there is: {', '.join(there)}")
    modules = tuple(name.replace("-", "_") for name in dict.fromkeys(chosen or there))
    return Plan(root, modules, short, url, seed)


def run(plan: Plan) -> BenchRun:
    """Measure all. Raises ``KvlabError`` when a round ends without its rows."""
    began, clock = time.time(), time.perf_counter()
    rows: dict[tuple[str, str, str], Row] = {}
    environment: dict[str, Any] = {}
    absent: tuple[str, ...] = ()
    failed: dict[str, str] = {}
    lost: dict[tuple[str, str], str] = {}
    rounds = plan.rounds
    progress = Progress(len(rounds))
    for settings in rounds:
        for said in _played(plan, settings):
            if "done" in said:
                progress.step(settings.number, said["done"], said["of"])
            elif "row" in said:
                facts = said["row"]
                row = Row(**facts | {"turns": tuple(Turn(**turn) for turn in facts["turns"])})
                before = rows[row.key].turns if row.key in rows else ()
                rows[row.key] = replace(row, turns=before + row.turns)
            elif "lost" in said:
                lost[said["lost"], said["case"]] = said["why"]
            elif "failed" in said:
                failed[said["failed"]] = said["why"]
            else:
                environment, absent = said["environment"], (*said["absent"],)
    progress.end()
    settings_kept = {
        "short": plan.short,
        "benchmarks": [*plan.benchmarks],
        "rounds": [
            {"number": one.number, "seed": one.seed, "turns": one.turns, "pieces": one.pieces}
            for one in rounds
        ],
        "seed": plan.seed,
        "load": "closed loop, one client, unless a case says otherwise",
        "warm_up": "a few calls of each side in each round",
    }
    seconds = time.perf_counter() - clock
    measured = [row for row in rows.values() if row.benchmark not in failed]
    failed |= _too_few(measured, lost)
    kept = tuple(row for row in measured if len(row.turns) >= FEWEST)
    return BenchRun(began, seconds, settings_kept, environment, kept, absent, failed)


def _too_few(rows: Sequence[Row], lost: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Why a case has too few turns to be judged: a long case has a turn or two in a round."""
    return {
        f"{row.benchmark}, {row.case}": "fewer than two turns were measured: "
        + lost.get(row.key[:2], "the run was too short")
        for row in rows
        if len(row.turns) < FEWEST
    }


def _played(plan: Plan, settings: Settings) -> Iterator[dict[str, Any]]:
    """What the process of one round says. The process ends when we end."""
    path = os.pathsep.join(filter(None, [str(plan.root), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "kvlab.bench.round"]
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            # Every user of the machine can read the arguments, and a URL may have a password.
            child.stdin.write(json.dumps(asdict(settings)) + "\n")
            child.stdin.flush()
            for line in child.stdout:
                yield json.loads(line)
        except BaseException:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(_LEAVING)
            child.kill()
            raise
        if child.wait():
            errors.seek(0)
            last = errors.read().strip().splitlines()[-5:]
            raise KvlabError("a round of the benchmark ended early:\n" + "\n".join(last))


class Progress:
    """A bar with an estimate in a terminal; elsewhere a line every ten seconds."""

    def __init__(self, rounds: int) -> None:
        self._rounds, self._began, self._said = rounds, time.monotonic(), time.monotonic()
        self._bar = progress_bar(1_000, "measuring").__enter__()

    def step(self, number: int, done: int, of: int) -> None:
        """``done`` of the ``of`` steps of round ``number`` are done."""
        share = (number + done / of) / self._rounds
        self._bar.update(round(1_000 * share) - self._bar.n)
        now = time.monotonic()
        if self._bar.disable and now - self._said >= _SAID_EVERY:
            self._said = now
            left = (now - self._began) * (1 / share - 1)
            print(f"round {number + 1} of {self._rounds}; about {left:.0f} s left", flush=True)

    def end(self) -> None:
        """Take the bar away."""
        self._bar.close()
