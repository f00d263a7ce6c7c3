"""A prepared process forks: what a fork has of it, and what a fork has of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kvlab.server.prepared import Forked, Prepared

MODULE = """
import os, signal, sys, time
imported_by = os.getpid()

def says():
    me = "wave" in sys.modules, os.getppid() == imported_by, os.environ["OWN"], sys.argv[1:]
    print(*me, os.path.basename(os.getcwd()), "HOME" in os.environ, os.getsid(0) == os.getpid())
    print("a problem", file=sys.stderr)
    sys.exit(7)

def sleeps():
    print("asleep", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "said.py").write_text(MODULE)
    return folder


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Iterator[Prepared]:
    with Prepared(["said", "wave"], {"PYTHONPATH": str(folder)}) as prepared:
        yield prepared


def sleeping(prepared: Prepared) -> Forked:
    read, write = os.pipe()
    fork = prepared.start("said:sleeps", ["x"], env={}, stdout=write)
    os.close(write)
    with open(read, "rb") as output:
        assert output.readline() == b"asleep\n"
    return fork


def test_a_fork_has_the_imports_and_all_else_is_its_own(prepared: Prepared, folder: Path) -> None:
    said, problem = folder / "out", folder / "err"
    with said.open("wb") as out, problem.open("wb") as err:
        words = ["name", "one", "two words"]
        given = {"env": {"OWN": "ours"}, "cwd": folder}
        fork = prepared.start("said:says", words, stdout=out, stderr=err, **given)
    assert fork.wait(60) == fork.poll() == 7
    assert said.read_text() == f"True True ours ['one', 'two words'] {folder.name} False True\n"
    assert problem.read_text() == "a problem\n"


def test_a_fork_is_waited_for_signalled_and_told_from_its_siblings(prepared: Prepared) -> None:
    first, second = sleeping(prepared), sleeping(prepared)
    assert first.pid != second.pid
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == -signal.SIGTERM
    assert second.poll() is None
    second.kill()
    assert second.wait(60) == -signal.SIGKILL
    second.kill()  # has no effect any more


OWNER = """
import os, signal, sys
sys.path[:0] = {path}
from kvlab.server.prepared import Prepared
prepared = Prepared(["said"])
fork = prepared.start("said:sleeps", ["x"], env={{}}, stdout=os.open(os.devnull, os.O_WRONLY))
print(prepared.pid, fork.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_its_owner_and_its_forks_see_that(folder: Path) -> None:
    code = OWNER.format(path=[str(folder), *sys.path])
    env = os.environ | {"PYTHONPATH": str(folder)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, check=False
    )
    assert ended.returncode == -signal.SIGKILL
    prepared, fork = map(int, ended.stdout.split())
    try:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(prepared).wait(60)
        assert psutil.Process(fork).ppid() != prepared
    finally:
        os.kill(fork, signal.SIGKILL)


def test_after_its_end_it_starts_nothing_and_answers_for_no_fork(folder: Path) -> None:
    with Prepared(["said"], {"PYTHONPATH": str(folder)}) as prepared:
        fork = sleeping(prepared)
    assert fork.wait(60) == -signal.SIGKILL  # as far as we can know
    os.kill(fork.pid, signal.SIGKILL)
    with pytest.raises(ChildProcessError, match="has ended"):
        prepared.start("said:says", ["x"], env={})
