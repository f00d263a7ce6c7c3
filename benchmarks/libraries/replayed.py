"""The schedule of a broken run, once more on a real server without the explorer.

Each client is a process of its own with redis-py's own connections, and a gate before the server
lets their writes through in the order of the schedule. A crash is SIGKILL before the write, a lost
reply is swallowed and the connection closed, a TTL that ends is a deleted key, a clock that jumps
is wrong from the client's start.
"""

from __future__ import annotations

import asyncio
import datetime
import inspect
import multiprocessing
import queue
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import redis

from benchmarks.libraries import promises
from benchmarks.libraries.explored import tried_by_a_third
from benchmarks.libraries.gates import PASSES, PATIENCE, Gate, gates
from benchmarks.libraries.promises import Library
from kvlab import Kv
from kvlab.instruments import World
from kvlab.instruments.explorer.run.steps import Step, Unfinished
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
        self.jumps([step for step in trace if step.client == number])
        told = library, number, url, self.ahead, theirs
        self.process = context.Process(target=_live, args=told)
        self.process.start()
        theirs.close()
        self.result: Any = None
        self.ended = False

    def jumps(self, rest: Sequence[Step]) -> None:
        """It is about to go on: if the next of its own steps is a jump, let its clock jump."""
        if rest and rest[0].kind == "jump":
            self.ahead.value = float(rest[0].label.split()[2])

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
    """Whether the run breaks the same promise there too; False where it cannot be made there."""
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
            found = _problem(library, World(results, kv, trace), server.url)
            return bool(found) and (shown.problem or "").startswith(found)


def _along(shown: Timeline, clients: list[_Client], gates: list[Gate], kv: Any) -> tuple[Step, ...]:
    """Take the steps of the run; returns the marks and the ends, as an invariant knows them."""
    done: list[Step] = []
    waiting: dict[int, Any] = {}
    for at, step in enumerate(shown.trace, 1):
        if step.client is None:
            kv.unlink(step.key)
            continue
        who = step.client
        rest = [later for later in shown.trace[at:] if later.client == who]
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
            link = gates[who].let(order, partial(clients[who].jumps, rest), waits=waits)
            if waits:
                waiting[who] = link
        elif step.label.startswith(("enters", "leaves")):
            clients[who].marks(step.label)
            done.append(Step("go", who, label=step.label))
        if step.ended and step.kind != "crash":
            clients[who].wait()
            done.append(Step("go", who, ended=True))
    for who, client in enumerate(clients):  # a look at the clock may be the last that it did
        if not client.ended and not isinstance(shown.results[who], Unfinished):
            client.wait()
            done.append(Step("go", who, ended=True))
    return tuple(done)


def _problem(library: Library, world: World, url: str) -> str:
    """How the promise is broken, in the words of the explorer; "" where it is kept."""
    for number, result in enumerate(world.results):
        if isinstance(result, ClientFailed) and str(result) not in _excused(library):
            return f"client {number} raised {result}"
    third = partial(tried_by_a_third, library, _with_run(world.kv), url)
    try:
        return "" if library.family.invariant(world, third) else "not true"
    except AssertionError as problem:
        return str(problem)


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
    """Replace the clocks of ``time`` and ``datetime``, wherever a module has bound them."""
    now, now_ns = time.time, time.time_ns

    class DateTime(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> DateTime:
            return cls.fromtimestamp(now() + ahead.value, tz)

    new: dict[Any, Any] = {
        now: lambda: now() + ahead.value,
        now_ns: lambda: now_ns() + int(ahead.value * 1e9),
        datetime.datetime: DateTime,
    }
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if any(value is real for real in new):
                setattr(module, name, new[value])
