"""The embedded cluster: six processes that the processes of one user share, and that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import kvlab
from kvlab import Key, Op
from kvlab.server import embedded, engines

MEMBER = """
import os, signal, sys, kvlab
kv = kvlab.connect("cluster:", prefix="other")
print(kv.run(kvlab.Op("GET", kvlab.Key("k"))), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    if missing := engines.find("valkey").missing:
        pytest.skip(f"no embedded cluster: {missing}")
    embedded.leave()
    with tempfile.TemporaryDirectory(prefix="kc-") as directory:
        monkeypatch.setenv("KVLAB_RUNTIME_DIR", directory)
        yield Path(directory)
        embedded.leave()


def test_it_is_shared_and_nothing_is_left_after_its_supervisor_is_killed(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVLAB_URL", "cluster:")
    with kvlab.connect(prefix="other") as kv:
        assert kv.run(Op("SET", Key("k"), "seen")) == b"OK"
        command = (sys.executable, "-c", MEMBER)
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert other.stdout is not None
        assert other.stdout.readline() == b"b'seen'\n"
        now = embedded.status("cluster")
        assert now.members == 2
        assert now.pid is not None
        theirs = psutil.Process(now.pid).children(recursive=True)
        assert [p.name() for p in theirs].count("valkey-server") == 6
        assert not any(" ".join(p.cmdline()).count("requirepass") for p in theirs)
        other.kill()
        other.communicate()
        kv.run(Op("PING"))
        os.kill(now.pid, signal.SIGKILL)
        _, left = psutil.wait_procs(theirs, timeout=20)
        assert left == []
    assert embedded.status("cluster").running is False
