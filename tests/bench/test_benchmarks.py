"""Every benchmark measures, in a namespace of its own; the command keeps what a round says."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.rest import BARE
from kvlab import Key, Kv, Op
from kvlab.bench import Bench, BenchRun, runner
from kvlab.bench.case import cleared, opened
from kvlab.bench.round import Measured
from kvlab.cli import app
from kvlab.errors import InvalidArgument
from kvlab.server.running_server import RunningServer

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py"))
TINY = """
from kvlab import Key, Op
from kvlab.bench import Case, Peer

def cases(bench):
    get = bench.calls(lambda: bench.kv.run(Op("GET", Key("k"))))
    by_hand = bench.calls(lambda: bench.kv.client.get("k"))
    yield Case("GET", "one key", get, {"by hand": Peer(by_hand, "redis", "decodes nothing")})
    yield from bench.installed(absent)

def absent(bench):
    import no_such_peer
"""


FLAKY = """
from itertools import count
import psutil
from kvlab.bench import Case, Peer

def cases(bench):
    assert bench.url not in " ".join(psutil.Process().cmdline()), "all users can read it"
    calls = count()
    def once():
        if next(calls) == 5:
            raise TimeoutError
    yield Case("a call", "it fails once", bench.calls(once), {"itself": Peer(bench.calls(print))})
"""

SLOW = """
from kvlab.bench import Case, Peer

def cases(bench):
    def slow():
        raise TimeoutError("too slow")
    yield Case("seconds", "it never ends", slow, {"itself": Peer(slow)}, long=True)
"""

CORES = """
import os
from kvlab.bench import Case, Peer

def cases(bench):
    server = int(bench.kv.client.info("server")["process_id"])

    def short():
        assert os.sched_getaffinity(0) == os.sched_getaffinity(server)
        assert len(os.sched_getaffinity(0)) == 1
        return [1.0]

    def long():
        assert os.sched_getaffinity(0) == os.sched_getaffinity(os.getppid())
        return [1.0]

    yield Case("short", "one core", short, {"itself": Peer(short)})
    yield Case("long", "all cores", long, {"itself": Peer(long)}, long=True)
"""


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_measures_every_side_once(
    name: str, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module(f"benchmarks.{name}")
    for constant in {"BURST", "USERS", "WATCHERS", "LOADED"} & {*vars(module)}:
        monkeypatch.setattr(module, constant, 20)
    with opened(server.url) as kv, ExitStack() as stack:
        stack.callback(cleared, kv)
        loop = stack.enter_context(asyncio.Runner())
        bench = Bench(server.url, kv, stack, loop, short=True)
        cases = [Measured(name, case, seed=1) for case in module.cases(bench)]
        assert cases or name == "load"
        for case in cases:
            case.take(0, 0, 2)
            for row in case.rows():
                (turn,) = row.turns
                assert min(turn.ours, turn.peer) > 0
                assert turn.after == 0, "a turn of two pieces has an order and its opposite"


def test_two_benchmarks_on_one_server_do_not_meet(
    server: RunningServer, kv: Kv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVLAB_PREFIX", kv.prefix + "mine")
    write, read = Op("SET", Key("k"), "v", "EX", 60), Op("EXISTS", Key("k"))
    with opened(server.url) as one, opened(server.url) as other:
        assert one.prefix.startswith(kv.prefix + "mine:")
        kv.run(write)
        other.run(write)
        one.run(write)
        peers = [f"LIMITS:{space.prefix}k" for space in (one, other)]  # as a peer names its keys
        for name in peers:
            one.client.set(name, "v", ex=60)
        cleared(one)
        assert (kv.run(read), one.run(read), other.run(read)) == (1, 0, 1)
        assert [one.client.exists(name) for name in peers] == [0, 1]
        cleared(other)


def test_the_command_measures_keeps_and_compares(
    tmp_path: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "tiny_one.py").write_text(TINY)
    monkeypatch.setattr("kvlab.workshop.workbook.released", lambda: tmp_path)
    monkeypatch.setattr(runner, "SHORT_ROUNDS", 1)
    monkeypatch.setattr(runner, "SHORT_TURNS", 3)
    first, second = tmp_path / "first", tmp_path / "second"
    asked = ["bench", "tiny-one", "--short", "--url", server.url]
    done = CliRunner().invoke(app, [*asked, "--save", str(first)])
    assert done.exit_code == 0, done.output
    assert "GET / by hand 8" in done.output
    assert "kvlab takes " in done.output
    assert 'not compared: no_such_peer is not installed: pip install "kvlab[peers]"' in done.output
    kept = (first / "run.json").read_text()
    for private in (str(tmp_path), "127.0.0.1", str(server.port)):
        assert private not in kept
    (first / "run.json").write_text(_quicker(kept))
    monkeypatch.setattr("kvlab.bench.verdict.PACE", 1e9)  # other tests run beside this one
    done = CliRunner().invoke(
        app, [*asked, "--save", str(second), "--against", str(first), "--fail-on-slower"]
    )
    assert BenchRun.load(second).rows[-1].case == "GET"
    assert "GET / by hand" in done.output.partition("against the older run")[2]
    assert done.exit_code == 1, done.output


def _quicker(text: str) -> str:
    """A run whose own side took a thousandth of the time."""
    facts = json.loads(text)
    for row in facts["rows"]:
        for turn in row["turns"]:
            turn["ours"] = turn["peer"] / 1000 if row["benchmark"] != "control" else turn["peer"]
    return json.dumps(facts)


def test_a_benchmark_that_fails_is_named_and_fails_the_command(
    tmp_path: Path, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "broken.py").write_text("def cases(bench):\n    yield 1 / 0\n")
    (tmp_path / "benchmarks" / "flaky.py").write_text(FLAKY)
    monkeypatch.setattr(runner, "SHORT_ROUNDS", 1)
    monkeypatch.setattr(runner, "SHORT_TURNS", 4)
    (tmp_path / "benchmarks" / "slow.py").write_text(SLOW)
    plan = runner.plan(tmp_path, ["broken", "flaky", "slow"], short=True, url=server.url, seed=1)
    run = runner.run(plan)
    assert run.failed == {
        "broken": "ZeroDivisionError: division by zero",
        "slow, seconds": "fewer than two turns were measured: TimeoutError: too slow",
    }
    turns = {row.benchmark: len(row.turns) for row in run.rows}
    assert turns == {"control": 4, "flaky": 3}, "a turn that fails is lost, and no other"
    run.save(tmp_path / "run")
    with pytest.raises(InvalidArgument, match=r"no benchmark x; there is: broken"):
        runner.plan(tmp_path, ["x"], short=True, url="", seed=1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no call that chooses a core")
def test_client_and_server_share_one_core_and_a_long_case_has_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "cores.py").write_text(CORES)
    monkeypatch.setattr(runner, "SHORT_ROUNDS", 2)
    monkeypatch.setattr(runner, "SHORT_TURNS", 2)
    run = runner.run(runner.plan(tmp_path, ["cores"], short=True, url="", seed=1))
    assert not run.failed
    assert {row.case: len(row.turns) for row in run.rows if row.benchmark == "cores"} == {
        "short": 4, "long": 2,
    }  # fmt: skip
    assert run.environment["cores"] == "client and server share one core"


def test_the_app_of_a_constant_ends_with_its_owner() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", BARE], stdin=pipe, stdout=pipe) as app:
        assert app.stdin is not None
        assert app.stdout is not None
        try:
            assert app.stdout.readline().strip().isdigit()
            app.stdin.close()  # as the kernel does when the owner is killed
            assert app.wait(60) == 0
        finally:
            app.kill()
