"""Runs tests in copies of the program, and says what became of a mutant."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from mutants.mutant import ROOT, Mutant

LONGEST = 120.0
"""Seconds after which tests have hung: that is no catch, choose some that fail."""

_FAILED = re.compile(r"^FAILED (\S+?::[^\[\n]+?(?:\[.*?\])?)(?: - (.*))?$", re.MULTILINE)
_SKIPPED = re.compile(r"^SKIPPED \[\d+\] (?:\S+: )?(.*)$", re.MULTILINE)
# Then the mutant is no program, and its failing proves nothing.
_NO_PROGRAM = re.compile(r"\b(SyntaxError|NameError|UnboundLocalError|ImportError|user_script)\b")


@dataclass(frozen=True, slots=True)
class Run:
    """What pytest said: its exit code (None: it hung), and all it wrote."""

    code: int | None
    output: str

    @property
    def skipped(self) -> set[str]:
        """The reasons."""
        return set(_SKIPPED.findall(self.output))


@dataclass(frozen=True, slots=True)
class Outcome:
    """``caught_by``: the id of the test that failed; None: ``why`` says why that is not so."""

    caught_by: str | None
    why: str


def judged(tested: Run) -> Outcome:
    """A mutant is caught by a test that fails, by nothing else that can go wrong."""
    if tested.code is None:
        return Outcome(None, f"the tests hung: {tested.output}")
    if tested.code == 0:
        return Outcome(None, "survived: the tests pass without it")
    failed = _FAILED.search(tested.output)
    if tested.code != 1 or failed is None:
        return Outcome(None, f"no test failed, pytest ended with {tested.code}: {tested.output}")
    test, reason = failed[1], failed[2] or ""
    if _NO_PROGRAM.search(reason):
        return Outcome(None, f"the mutant is no program that runs: {reason}")
    return Outcome(test, reason)


class Trees:
    """Copies of what git tracks, one for each of ``jobs`` workers."""

    def __init__(self, directory: Path, jobs: int) -> None:
        self._free: asyncio.Queue[Path] = asyncio.Queue()
        listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT)
        names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
        for job in range(jobs):
            tree = directory / str(job)
            for name in names:
                if (ROOT / name).exists():  # else it is deleted and not yet committed
                    (tree / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / name, tree / name)
            self._free.put_nowait(tree)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Path]:
        tree = await self._free.get()
        try:
            yield tree
        finally:
            self._free.put_nowait(tree)


async def unmutated(trees: Trees, mutants: Sequence[Mutant]) -> Run:
    """The tests of all these mutants, which are of the same files, on the program as it is."""
    words = {mutant.words for mutant in mutants}
    every = "" if "" in words else " or ".join(f"({each})" for each in sorted(words))
    async with trees.one() as tree:
        return await _pytest(tree, mutants[0].tests, every)


async def mutated(trees: Trees, mutant: Mutant) -> Outcome:
    async with trees.one() as tree:
        with mutant.applied(tree):
            return judged(await _pytest(tree, mutant.tests, mutant.words))


async def _pytest(tree: Path, tests: tuple[str, ...], words: str) -> Run:
    chosen = "not redis" if not words else f"({words}) and not redis"  # one engine is enough
    env = {
        **os.environ,
        "PYTHONPATH": str(tree),  # before any installed kvlab
        # A .pyc is told from a stale one by size and second; mutants come faster.
        "PYTHONDONTWRITEBYTECODE": "1",
        "CI": "1",  # pytest: whole lines; Hypothesis: the same examples each time
    }
    env.pop("PYTEST_ADDOPTS", None)
    pytest = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider")
    pytest += ("--hypothesis-profile", "unshrunk")
    process = await asyncio.create_subprocess_exec(
        *(*pytest, *tests, "-k", chosen),
        cwd=tree,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is ours to pass on
    )
    try:
        async with asyncio.timeout(LONGEST):
            output, _ = await process.communicate()
    except TimeoutError:
        return Run(None, f"pytest {' '.join(tests)} -k {chosen!r}: no end after {LONGEST:g} s")
    finally:
        await _ended(process)
    return Run(process.returncode, output.decode(errors="replace"))


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End pytest if it runs: by SIGINT, so that it ends its servers; then without asking."""
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        async with asyncio.timeout(10):
            await process.communicate()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
