"""``processes``: the same story as from one, whatever the program, and nothing left behind.

What an invariant sees happens in another process; it is handed over in a file, a line a run.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from kvlab import FixedWindow, Lock
from kvlab.errors import InvalidArgument, KvlabError, ServerUnavailable
from kvlab.instruments import Story, World, explore
from kvlab.instruments.explorer.clients import client_thread
from kvlab.instruments.explorer.findings import Findings
from kvlab.instruments.explorer.invariants import Verdict
from kvlab.instruments.explorer.processes import SharedCounts, hand_out
from kvlab.instruments.explorer.run.choices import Choice
from kvlab.instruments.explorer.search import Nondeterministic
from kvlab.rate_limiting import NaiveFixedWindow, NaiveSlidingWindow

pytestmark = [
    pytest.mark.usefixtures("leaves_nothing_behind"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform"),
]

Explored = Callable[..., Story]


def lost_update(kv: Any) -> None:
    found = int(kv.get("n") or 0)
    kv.set("n", found + 1)


def thrice(kv: Any) -> None:
    for _ in range(3):
        kv.incr("n")


def slides(kv: Any) -> bool:
    return NaiveSlidingWindow(kv, limit=1).check("ann")


def counts(kv: Any) -> bool:
    return NaiveFixedWindow(kv, limit=1).check("ann")


def hits(kv: Any) -> Any:
    return kv.run(FixedWindow("api", limit=1, window=60).hit("ann")).allowed


def locks(kv: Any) -> bool:
    held = kv.run(Lock("door", ttl=30).try_acquire())
    return held is not None and bool(kv.run(Lock("door", ttl=30).release(held)))


def waits(kv: Any) -> Any:
    return kv.blpop("q", 5)


def pushes(kv: Any) -> None:
    kv.set("k", 1, ex=100)
    kv.rpush("q", "e")


def looks(kv: Any) -> float:
    began = time.time()
    kv.get("a")
    time.sleep(5)
    return time.time() - began


async def lost_update_async(kv: Any) -> None:
    found = int(await kv.get("n") or 0)
    await kv.set("n", found + 1)


def at_most_one(world: World) -> bool:
    return sum(world.results) <= 1


def all_counted(world: World) -> bool:
    return world.kv.get("n") == str(len(world.results)).encode()


def has_a_ttl(world: World) -> bool:
    return all(world.kv.ttl(key) > 0 for key in world.kv.keys("*"))


def never_at_once(world: World) -> bool:
    order = "".join(str(step.client) for step in world.trace)
    assert order not in ("000111", "111000"), f"{order} is serial"
    assert order != "010101", "in turns"
    return True


def comparable(story: Story) -> tuple[Any, ...]:
    """A story without its seconds, and without what they change: scores and fences."""
    shown = [] if story.shortest is None else story.shortest.trace
    steps = [(step.kind, step.client, [c[0] for c in step.commands]) for step in shown]
    counts = story.schedules, story.at_least, story.complete, story.broken
    return *counts, story.summary, story.schedule, steps, story.shortest and story.shortest.problem


class Meeting:
    """Where so many processes wait for each other, once. (A Barrier keeps a file descriptor.)"""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("fork")
        self._others = count - 1
        self._first = context.Lock()
        self._come, self._go = context.Semaphore(0), context.Semaphore(0)

    def wait(self) -> None:
        if self._first.acquire(block=False):
            for _ in range(self._others):
                assert self._come.acquire(timeout=60), "not all have come"
            for _ in range(self._others):
                self._go.release()
        else:
            self._come.release()
            assert self._go.acquire(timeout=60), "not all have come"


# --- the same story ---


@pytest.mark.parametrize(
    ("clients", "options"),
    [
        pytest.param([lost_update] * 3, {"invariant": all_counted}, id="many as short"),
        pytest.param([slides] * 2, {"invariant": at_most_one}, id="sliding window"),
        pytest.param([thrice] * 2, {"invariant": never_at_once}, id="several reasons"),
        pytest.param([thrice], {}, id="one run, which holds"),
        pytest.param([lost_update_async] * 2, {"invariant": all_counted}, id="asyncio"),
        pytest.param([counts], {"invariant": has_a_ttl, "crashes": True}, id="crash"),
        pytest.param(
            [locks] * 2,
            {
                "invariant": lambda world: world.results.count(True) <= 1,
                **dict.fromkeys(("crashes", "lost_replies", "lost_requests", "expiries"), True),
            },
            id="lock and faults",
        ),
        pytest.param(
            [hits] * 2, {"script_flushes": True, "crashes": True, "max_faults": 2}, id="scripts"
        ),
        pytest.param([waits, pushes], {"crashes": True, "expiries": True}, id="blocking"),
        pytest.param(
            [looks, thrice],
            {"invariant": lambda w: abs(w.results[0] - 5) < 1, "clock_jumps": [60, -60]},
            id="clocks",
        ),
    ],
)
def test_it_is_the_same_story(clients: Any, options: dict[str, Any]) -> None:
    assert comparable(explore(clients, processes=2, **options)) == comparable(
        explore(clients, **options)
    )


@pytest.mark.parametrize("processes", [2, 3])
def test_every_run_is_made_once_and_each_process_makes_some(tmp_path: Path, processes: int) -> None:
    made = tmp_path / "made"
    meeting = Meeting(processes)
    here: list[int] = []

    def invariant(world: World) -> bool:
        here.append(os.getpid())
        if len(here) == 2:  # a child's second run: by its first, it has seen who has nothing to do
            meeting.wait()
        order = "".join(str(step.client) for step in world.trace)
        with made.open("a") as file:
            file.write(f"{os.getpid()} {order} {sorted(allowed())}\n")
        return True

    assert explore([lost_update] * 3, invariant=invariant, processes=processes).schedules == 90
    lines = [line.split(maxsplit=2) for line in made.read_text().splitlines()]
    assert len(lines) == len({order for _, order, _ in lines}) == 90
    assert len({pid for pid, _, _ in lines}) == processes
    assert len({cores for _, _, cores in lines}) == min(processes, len(allowed()) or 1)
    assert here == [], "no run in this process"


def allowed() -> set[int]:
    """The cores that this thread may use; none where that cannot be said."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def test_what_is_shown_does_not_depend_on_who_reports_first() -> None:
    def noted(place: tuple[int, ...], path: tuple[Choice, ...]) -> Findings:
        found = Findings()
        found.note(
            path,
            SimpleNamespace(trace=(), sends_time=set(), waits={}),
            Verdict("so"),
            SimpleNamespace(place=place),
        )  # type: ignore[arg-type]
        return found

    path = (Choice("go", 0), Choice("go", 1))
    first, later = noted((0, 0), path), noted((1, 0), path[::-1])
    for one, other in ((first, later), (later, first)):
        total = Findings()
        total.add(one)
        total.add(other)
        assert total.best == first.best
        assert total.broken == {"so": 2}


# --- limits ---


@pytest.mark.parametrize("most", [1, 2, 7, 19])
def test_no_more_runs_than_asked_for_are_made(tmp_path: Path, most: int) -> None:
    made = tmp_path / "made"

    def invariant(_: World) -> bool:
        with made.open("a") as file:
            file.write("x")
        return True

    story = explore([thrice] * 2, invariant=invariant, processes=2, max_schedules=most)
    assert (story.schedules, story.complete) == (most, False)
    assert len(made.read_text()) == most
    assert most < story.at_least <= 20


def test_as_many_as_there_are_is_complete() -> None:
    story = explore([thrice] * 2, processes=2, max_schedules=20)
    assert (story.schedules, story.at_least, story.complete) == (20, 20, True)


def test_when_time_is_up_each_ends_its_run() -> None:
    story = explore([thrice] * 2, processes=2, max_seconds=1e-9)
    assert story.schedules in (1, 2)
    assert story.schedules < story.at_least <= 20
    assert not story.complete


def test_parts_that_nobody_has_taken_are_counted_as_unexplored() -> None:
    ours, theirs = multiprocessing.Pipe()
    way = (((Choice("go", 0), Choice("go", 1)), Choice("go", 1)),)
    for news in (way, way, Findings(schedules=1, unexplored=3)):
        theirs.send(news)
    with ours, theirs:
        assert hand_out([ours], SharedCounts(), lambda: None).unexplored == 5
        assert theirs.recv() == (), "the whole search comes first"


# --- what ends it ---


class _Stop(BaseException):
    """As KeyboardInterrupt."""


def in_third_run(act: Callable[[], object]) -> Callable[[World], bool]:
    """An invariant, to act in a child's third run."""
    runs = itertools.count(1)

    def invariant(_: World) -> bool:
        if next(runs) == 3:
            act()
        return True

    return invariant


def raiser(problem: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise problem

    return act


@pytest.mark.parametrize("problem", [KeyboardInterrupt("so"), SystemExit(3), _Stop("so")], ids=repr)
def test_what_an_invariant_raises_ends_it(problem: BaseException) -> None:
    with pytest.raises(type(problem)) as caught:
        explore([thrice] * 2, invariant=in_third_run(raiser(problem)), processes=2)
    assert caught.value.args == problem.args
    (note,) = caught.value.__notes__
    assert note.startswith("in a process of the exploration:\nTraceback")
    assert "in act\n" in note


def test_what_setup_raises_ends_it() -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        explore([thrice], setup=lambda kv: 1 / 0, processes=2)


class Worded(Exception):
    """Made from another argument than its words, as a pipe does not know."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is broken")


def test_an_error_that_cannot_travel_sends_its_words() -> None:
    class Local(Exception):
        pass

    for problem in (Local("known here alone"), Worded("a thing")):

        def setup(_: Any, problem: Exception = problem) -> None:
            raise problem

        with pytest.raises(KvlabError) as caught:
            explore([thrice], setup=setup, processes=2)
        assert str(caught.value) == f"{type(problem).__name__}: {problem}"


def test_a_client_that_hangs_raises_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_thread, "HANG_SECONDS", 0.2)
    never = multiprocessing.get_context("fork").Event()
    with pytest.raises(client_thread.Hung, match="client 0 has neither"):
        explore([lambda kv: (kv.get("a"), never.wait()), thrice], processes=2)


def test_a_client_that_does_not_repeat_itself_raises_nondeterministic() -> None:
    lengths = itertools.chain([2], itertools.repeat(1))

    def shorter_then(kv: Any) -> None:
        for _ in range(next(lengths)):
            kv.incr("n")

    with pytest.raises(Nondeterministic, match=r"its step 1 .* was not its last in one run"):
        explore([shorter_then, thrice], processes=2)


def test_a_client_that_sends_nothing_has_not_been_tried() -> None:
    with pytest.raises(InvalidArgument, match="job sent nothing in any run"):
        explore({"job": lambda kv: 1, "other": thrice}, processes=2)


def test_a_server_that_dies_ends_it() -> None:
    def kills(kv: Any) -> None:
        psutil.Process(kv.info("server")["process_id"]).kill()
        kv.get("a")

    with pytest.raises(ServerUnavailable, match="the server of the exploration"):
        explore([kills, thrice], processes=2)


def test_a_process_that_is_killed_ends_it_and_its_server(tmp_path: Path) -> None:
    servers = tmp_path / "servers"

    def setup(kv: Any) -> None:
        with servers.open("a") as file:
            file.write(f"{kv.info('server')['process_id']}\n")

    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(KvlabError, match="a process of the exploration ended before its work"):
        explore([thrice] * 2, setup=setup, invariant=in_third_run(dies), processes=2)
    gone(int(pid) for pid in servers.read_text().split())


def test_ctrl_c_ends_it_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, once = os.getpid(), multiprocessing.get_context("fork").Lock()

    def presses() -> None:  # it reaches the whole foreground
        if once.acquire(block=False):
            for pid in (os.getpid(), parent):
                os.kill(pid, signal.SIGINT)

    with tempfile.TemporaryDirectory(prefix="kv-") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        with pytest.raises(KeyboardInterrupt) as caught:
            explore([thrice] * 6, invariant=in_third_run(presses), processes=2)
        assert os.listdir(directory) == [], "one that had to be killed leaves its server's files"
    assert not hasattr(caught.value, "__notes__"), "it is the parent's own, not a child's"


ENDLESS = """
import os
from kvlab.instruments import explore
runs = []
def client(kv):
    for _ in range(30):
        kv.incr("n")
def invariant(world):
    runs.append(1)
    if len(runs) == 2:
        print(os.getpid(), world.kv.info("server")["process_id"], flush=True)
    return True
explore([client] * 3, invariant=invariant, processes=2)
"""


def test_none_of_it_outlives_the_program() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        lines = [program.stdout.readline().split() for _ in range(2)]
        program.kill()
    gone(int(pid) for line in lines for pid in line)


def gone(pids: Any) -> None:
    left = [psutil.Process(pid) for pid in set(pids) if psutil.pid_exists(pid)]
    assert psutil.wait_procs(left, 20)[1] == []


# --- where it cannot be ---


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"reduce": True}, "processes must be 1, not 2, with reduce=True"),
        ({"url": "redis://127.0.0.1:1/0"}, "processes must be 1, not 2, with url"),
        ({"processes": 0}, "processes must be a whole number of at least 1"),
        ({"processes": True}, "processes must be a whole number"),
    ],
    ids=str,
)
def test_it_says_why_not(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        explore([thrice], **{"processes": 2, **options})


def test_without_fork_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(InvalidArgument, match=r"processes must be 1, not 2, here: .* fork"):
        explore([thrice], processes=2)
