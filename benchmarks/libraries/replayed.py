"""The schedule of a broken run, once more on a real server without the explorer.

Each client is a process of its own with redis-py's own connections, and a gate before the server
lets their writes through in the order of the schedule. A crash is SIGKILL before the write, a lost
reply is swallowed and the connection closed, a TTL that ends is a deleted key, a clock that jumps
is wrong from the client's start.
"""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import queue
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import redis

from benchmarks.libraries import promises
from benchmarks.libraries.explored import tried_by_a_third
from benchmarks.libraries.gates import PASSES, PATIENCE, Gate, gates
from benchmarks.libraries.promises import Library
from kvlab import Kv
from kvlab.instruments import World
from kvlab.instruments.explorer.run.steps import Step
from kvlab.instruments.explorer.timeline.timeline import Timeline
from kvlab.instruments.faults.client_gate import ClientCrashed
from kvlab.server import engines


class ClientFailed(Exception):
    """The client raised; the text is the class of what it raised."""


class _Client:
    """A process that runs one client. It sends a label for each of its marks, and its end."""

    def __init__(self, library: Library, number: int, url: str, trace: Sequence[Step]) -> None:
        context = multiprocessing.get_context("fork")
        self.pipe, theirs = context.Pipe()
        self.ahead = context.Value("d", 0.0)
        self.jumps(step for step in trace if step.client == number)
        told = library, number, url, self.ahead, theirs
        self.process = context.Process(target=_live, args=told)
        self.process.start()
        theirs.close()
        self.result: Any = None
        self.ended = False

    def jumps(self, mine: Iterator[Step]) -> None:
        """If the next of its own steps is a jump of its clock: the client is about to run."""
        following = next(mine, None)
        if following is not None and following.kind == "jump":
            self.ahead.value = float(following.label.split()[2])

    def marks(self, label: str) -> None:
        """Let the client pass its next mark."""
        if not self.pipe.poll(PATIENCE):
            raise TimeoutError(f"the client has not come to {label!r}")
        kind, value = self.pipe.recv()
        if (kind, value) != ("mark", label):
            raise TimeoutError(f"the client has come to {kind} {value!r}, not to {label!r}")
        self.pipe.send("go")

    def wait(self) -> None:
        """For its end."""
        if self.ended:
            return
        if not self.pipe.poll(PATIENCE):
            raise TimeoutError("the client has not ended")
        kind, value = self.pipe.recv()
        if kind == "mark":
            raise TimeoutError(f"the client has come to {value!r}, not to its end")
        self.result, self.ended = (ClientFailed(value) if kind == "raised" else value), True

    def kill(self) -> None:
        self.process.kill()
        self.process.join()
        if not self.ended:
            self.result, self.ended = ClientCrashed("killed"), True


def reproduced(library: Library, shown: Timeline) -> bool:
    """Whether the run breaks the promise there too; False where it cannot be made there."""
    with engines.start("valkey") as server:
        address = redis.connection.parse_url(server.url)
        kv = redis.Redis.from_url(server.url)
        with kv, gates((address["host"], address["port"]), 2) as both:
            if library.setup is not None:
                library.setup(kv)
            for step in shown.trace:  # the explorer's runs begin with all scripts loaded, too
                for text in step.scripts.values():
                    kv.script_load(text)
            clients = [
                _Client(library, number, gate.url, shown.trace) for number, gate in enumerate(both)
            ]
            try:
                trace = _along(shown, clients, both, kv)
            except (queue.Empty, OSError, EOFError) as problem:  # TimeoutError too
                print("   ", library.name, repr(problem), file=sys.stderr)
                return False
            finally:
                for client in clients:
                    client.kill()
            results = [client.result for client in clients]
            return _is_broken(library, World(results, kv, trace), server.url)


def _along(shown: Timeline, clients: list[_Client], gates: list[Gate], kv: Any) -> tuple[Step, ...]:
    """Take the steps of the run; returns the marks and the ends, as an invariant knows them."""
    done: list[Step] = []
    waiting: dict[int, Any] = {}
    for at, step in enumerate(shown.trace, 1):
        if step.client is None:
            kv.unlink(step.key)
            continue
        who = step.client
        clients[who].jumps(later for later in shown.trace[at:] if later.client == who)
        if step.kind == "crash":
            clients[who].kill()
            done.append(Step("crash", who, ended=True))
        elif who in waiting and step.commands:  # the answer of a command that the server made wait
            if not waiting.pop(who).answered.wait(PATIENCE):
                raise TimeoutError("a blocking command has no answer")
        elif step.commands and not PASSES.issuperset(
            command[0].decode().upper() for command in step.commands
        ):
            order: Any = step.kind if step.kind.startswith("lose") else "go"
            waits = order == "go" and not step.replies
            link = gates[who].let(order, waits=waits)
            if waits:
                waiting[who] = link
        elif step.label.startswith(("enters", "leaves")):
            clients[who].marks(step.label)
            done.append(Step("go", who, label=step.label))
        if step.ended and step.kind != "crash":
            clients[who].wait()
            done.append(Step("go", who, ended=True))
    return tuple(done)


def _is_broken(library: Library, world: World, url: str) -> bool:
    for result in world.results:
        if isinstance(result, ClientFailed) and str(result) not in _excused(library):
            return True
    try:
        return not library.family.invariant(
            world, lambda: tried_by_a_third(library, _with_run(world.kv), url)
        )
    except AssertionError:
        return True


def _excused(library: Library) -> set[str]:
    return {"ConnectionError", "TimeoutError", "OutcomeUnknown", "ServerUnavailable",
            *library.expected}  # fmt: skip


# --- in the client's process ---


def _live(library: Library, number: int, url: str, ahead: Any, pipe: Connection) -> None:
    def mark(label: str) -> None:
        pipe.send(("mark", label))
        pipe.recv()

    promises.inside.append(mark)
    _clock_is_wrong(ahead)
    client = library.clients[number]
    with suppress(BrokenPipeError, EOFError):
        try:
            pipe.send(("returned", _run(client, url)))
        except Exception as problem:
            pipe.send(("raised", type(problem).__name__))


def _run(client: Callable[..., Any], url: str) -> Any:
    if not inspect.iscoroutinefunction(client):
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 10)  # as of the explorer's client
        return client(_with_run(redis.from_url(url, retry=retry)), url)

    async def arun() -> Any:
        retry = redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 10)
        async with redis.asyncio.from_url(url, retry=retry) as kv:
            return await client(kv, url)

    return asyncio.run(arun())


def _with_run(kv: Any) -> Any:
    """The client with ``run``, as the explorer gives one."""
    kv.run = Kv(kv, prefix="kv:").run
    return kv


def _clock_is_wrong(ahead: Any) -> None:
    """Replace ``time.time`` and ``time_ns``, wherever a module has bound them."""
    now, now_ns = time.time, time.time_ns
    new = {now: lambda: now() + ahead.value, now_ns: lambda: now_ns() + int(ahead.value * 1e9)}
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is now or value is now_ns:
                setattr(module, name, new[value])
