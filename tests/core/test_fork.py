"""Forked while another thread of the parent is in the middle of something.

Each script runs in a process of its own, which may have no other threads. Its child ends by SIGALRM
if it waits for a thread of its parent.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kvlab import Kv
from kvlab.server.running_server import RunningServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

BEGIN = """
import asyncio, gc, os, signal, sys, threading, time
from kvlab import *
from kvlab.errors import *

def in_child(work, *, seconds=5):
    if (child := os.fork()) == 0:
        signal.alarm(seconds)
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status

WITH_STATE = ("client.py", "executor.py", "pool.py", "connections.py", "calls.py", "health.py")

class Stepped(threading.Thread):
    # Stops before each line of a module with state that it meets for the first time.

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.lines = work, set()
        self.stopped, self.go_on = threading.Semaphore(0), threading.Semaphore(0)

    def run(self):
        sys.settrace(self.trace)
        self.work()
        sys.settrace(None)
        self.lines.add(None)
        self.stopped.release()

    def trace(self, frame, event, _):
        if not frame.f_code.co_filename.endswith(WITH_STATE):
            return None
        line = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and line not in self.lines:
            self.lines.add(line)
            self.stopped.release()
            self.go_on.acquire()
        return self.trace

    def __iter__(self):
        self.start()
        while self.stopped.acquire() and None not in self.lines:
            yield
            self.go_on.release()
        self.join()

url, prefix = sys.argv[1:]
kv = connect(url, prefix=prefix)
"""


def run(server: RunningServer, kv: Kv, script: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEGIN + script]
    ended = subprocess.run([*command, server.url, kv.prefix], capture_output=True, timeout=100)
    assert ended.returncode == 0, ended.stderr.decode()


EVERY_LINE = """
def work():
    kv.run(CacheAside("c", 60).fetch("k", lambda: 1))
    kv.run(*[Op("INCR", Key("n"))] * 2)

def check():
    before = kv.round_trips
    assert kv.run(CacheAside("c", 60).fetch(os.getpid(), lambda: 2)) == 2
    assert kv.round_trips > before

threads = Stepped(work)
for _ in threads:
    in_child(check)
assert len(threads.lines) > 50, len(threads.lines)
check()
"""


def test_at_each_line_of_a_thread_of_the_parent(server: RunningServer, kv: Kv) -> None:
    run(server, kv, EVERY_LINE)


JOINED = """
from kvlab.core.calls import Calls

calls, begun, go_on = Calls(), threading.Event(), threading.Event()

def load():
    begun.set()
    go_on.wait()

parents = threading.Thread(target=calls.run, args=("n", load), kwargs={"join": True})
parents.start()
begun.wait()
in_child(lambda: calls.run("n", int, join=True))    # the parent's load never ends here
go_on.set()
parents.join()
"""


def test_a_load_of_the_parent_is_not_waited_for(server: RunningServer, kv: Kv) -> None:
    run(server, kv, JOINED)


FLAG_WATCHER = """
flags = FeatureFlags("f")
kv.run(flags.set("x", Flag(100)))
watcher = FlagWatcher(kv, flags)
assert watcher.wait_for(1)

def worker():
    kv.run(flags.set("x", Flag(0)))
    start = threading.Thread.start
    def start_and_wait(thread):             # the new thread reads before the look returns
        start(thread)
        while watcher._snapshot.version < 2:
            time.sleep(0.001)
    threading.Thread.start = start_and_wait
    assert watcher.snapshot.version == 1    # at once, as of before the fork
    threading.Thread.start = start
    assert watcher.wait_for(2)
    assert watcher.stale_since is None
    kv.run(flags.set("x", Flag(50)))
    assert watcher.wait_for(3)
    watcher.close()

def worker_without_a_server():
    def refuse(*_):
        raise ConnectionError
    watcher._make = refuse
    assert watcher.wait_until(lambda watcher: watcher.error)
    assert began <= watcher.stale_since <= forked
    assert watcher.snapshot.version == 1

def worker_that_only_closes():
    watcher.close()
    assert watcher.snapshot.version == 1
    assert threading.active_count() == 1

began, forked = 0, kv.clock()
connection = watcher._follower().connection._sock.fileno()
with watcher._follower().news:              # a thread of the parent holds the lock
    in_child(worker_without_a_server)
    in_child(worker_that_only_closes)
    in_child(worker)
assert watcher.wait_for(3)
assert watcher._follower().connection._sock.fileno() == connection
watcher.close()
"""


def test_a_flag_watcher_goes_on_in_a_child(server: RunningServer, kv: Kv) -> None:
    run(server, kv, FLAG_WATCHER)


IN_AN_EVENT_LOOP = """
flags = FeatureFlags("f")

async def in_parent(akv):
    assert await akv.run(Op("INCR", Key("n"))) == 1
    async with AsyncFlagWatcher(akv, flags) as watcher:
        assert await watcher.wait_until(lambda watcher: watcher.stale_since is None)
        await asyncio.to_thread(in_child, lambda: asyncio.run(in_a_loop_of_its_own(akv, watcher)))
        assert watcher.error is None
        async with asyncio.timeout(1):
            assert await akv.run(Op("INCR", Key("n"))) == 3
            await akv.run(flags.set("x", Flag(100)))
            assert await watcher.wait_for(2)

async def in_a_loop_of_its_own(akv, watcher):
    assert watcher.error is not None and watcher.stale_since is not None
    assert await akv.run(Op("INCR", Key("n"))) == 2
    async with watcher:
        await akv.run(flags.set("x", Flag(50)))
        assert await watcher.wait_for(1)
        assert watcher.error is None
    gc.collect()

async def main():
    async with await aconnect(url, prefix=prefix) as akv:
        await in_parent(akv)

asyncio.run(main())
"""


def test_beside_an_event_loop(server: RunningServer, kv: Kv) -> None:
    run(server, kv, IN_AN_EVENT_LOOP)


OUTAGE = """
import redis, socket

with socket.create_server(("127.0.0.1", 0)) as silent:
    there = Kv(redis.Redis(port=silent.getsockname()[1], driver_info=None), timeout=0.1)

    def fails(error):
        try:
            there.run(Op("PING"))
        except error:
            return
        raise AssertionError

    fails(OutcomeUnknown)
    peer, _ = silent.accept()
    peer.recv(100)
    peer.sendall(b"+PONG\\r\\n")               # a late answer, to the parent
    in_child(lambda: fails(ServerUnavailable))
    peer.setblocking(False)
    try:
        raise AssertionError(peer.recv(1))     # the child closed the parent's connection
    except BlockingIOError:
        pass
"""


def test_an_outage_in_a_child_leaves_the_parents_connection_alone(
    server: RunningServer, kv: Kv
) -> None:
    run(server, kv, OUTAGE)
