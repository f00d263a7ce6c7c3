"""What an exploration is asked to do: checked once, frozen, handed on whole."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from kvlab.core import checks
from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.explorer.connections.redis_clients import KvRedis
from kvlab.instruments.explorer.run.steps import Invariant

Program = Callable[[Any], Any]

_CHOOSES_SERVER = frozenset(
    {"db", "host", "port", "path", "unix_socket_path", "connection_class", "connection_pool"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """Which kinds of fault may happen in a run.

    * ``crashes``: a client stops for good after any of its steps.
    * ``lost_replies``: the server executes a command, and the client gets a ConnectionError.
    * ``lost_requests``: the server never gets a command, and the client gets a ConnectionError.
      Neither loss happens to a blocking command.
    * ``expiries``: the TTL of any key ends at any time, and a blocking command times out although
      another client could still wake it. (Without ``expiries``, a blocking command times out only
      when no client can go on otherwise.)
    * ``script_flushes``: the server forgets its scripts (with ``url``: all the scripts it has).
    * ``failovers``: the server is replaced by a replica that has not got its last writes: one of
      them, two of them, up to all that the clients have made. All connections of the clients
      break, and the scripts are forgotten. (Replication is asynchronous: a client is answered
      before a replica has the write.) Another fault of this kind: a WAIT is answered with 0.
    * ``clock_jumps``: when a client reads its wall clock (``time.time``), the clock has jumped by
      one of these numbers of seconds.

    ``a | b`` allows what either of the two allows. Raises InvalidArgument for what is neither True
    nor False, and for clock jumps that are no numbers of seconds.
    """

    crashes: bool = False
    lost_replies: bool = False
    lost_requests: bool = False
    expiries: bool = False
    script_flushes: bool = False
    failovers: bool = False
    clock_jumps: Sequence[float] = ()

    def __post_init__(self) -> None:
        for kind in fields(self):
            if kind.name != "clock_jumps":
                checks.boolean(kind.name, getattr(self, kind.name))
        jumps = self.clock_jumps
        if not isinstance(jumps, Sequence) or isinstance(jumps, str | bytes):
            raise InvalidArgument(f"clock_jumps must be seconds, like [3600, -60], not {jumps!r}")
        checked = tuple(real("clock_jumps", jump, -1e9, 1e9) for jump in jumps)
        object.__setattr__(self, "clock_jumps", checked)

    def __or__(self, other: Faults) -> Faults:
        if not isinstance(other, Faults):
            return NotImplemented
        return Faults(
            crashes=self.crashes or other.crashes,
            lost_replies=self.lost_replies or other.lost_replies,
            lost_requests=self.lost_requests or other.lost_requests,
            expiries=self.expiries or other.expiries,
            script_flushes=self.script_flushes or other.script_flushes,
            failovers=self.failovers or other.failovers,
            clock_jumps=tuple(dict.fromkeys((*self.clock_jumps, *other.clock_jumps))),
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the kinds that are allowed."""
        return tuple(kind.name for kind in fields(self) if getattr(self, kind.name))

    @property
    def between_steps(self) -> bool:
        """Whether any fault can happen that is not a clock's."""
        return (
            self.crashes
            or self.lost_replies
            or self.lost_requests
            or self.expiries
            or self.script_flushes
            or self.failovers
        )


NO_FAULTS = Faults()
ALL_FAULTS = Faults(
    crashes=True, lost_replies=True, lost_requests=True, expiries=True, script_flushes=True
)
"""Every kind of fault of one server but clock jumps, which need their seconds: ``ALL_FAULTS |
Faults(clock_jumps=[3600], failovers=True)``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The arguments of ``explore`` and ``replay``. Raises InvalidArgument for bad ones."""

    clients: Mapping[str, Program]
    setup: Callable[[KvRedis], object] | None = None
    invariant: Invariant | None = None
    faults: Faults = NO_FAULTS
    expected: tuple[type[BaseException], ...] = ()
    max_faults: int = 1
    reduce: bool = False
    max_schedules: int = 100_000
    max_seconds: float = 300.0
    max_steps: int = 1000
    engine: str = "valkey"
    url: str | None = None
    client_options: Mapping[str, Any] = field(default_factory=dict)
    processes: int = 1
    own_connections: bool = False
    progress: bool = True

    def __post_init__(self) -> None:
        whole("max_faults", self.max_faults, 1)
        whole("max_schedules", self.max_schedules, 1)
        real("max_seconds", self.max_seconds, 0, above=True)
        whole("max_steps", self.max_steps, 1)
        whole("processes", self.processes, 1)
        for name, function in (("setup", self.setup), ("invariant", self.invariant)):
            if function is not None and inspect.iscoroutinefunction(
                checks.function(name, function)
            ):
                raise InvalidArgument(f"{name} must be a plain function, not an async one")
        if not isinstance(self.faults, Faults):
            raise InvalidArgument(
                "faults must be Faults, such as ALL_FAULTS or Faults(crashes=True), "
                f"not {self.faults!r:.80}; max_faults says how many may happen in one run"
            )
        kinds = self.expected if isinstance(self.expected, tuple) else (self.expected,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise InvalidArgument(
                "expected must be classes of exceptions, such as (LockNotOwnedError,), "
                f"not {self.expected!r:.80}"
            )
        object.__setattr__(self, "expected", kinds)
        checks.boolean("reduce", self.reduce)
        checks.boolean("own_connections", self.own_connections)
        checks.boolean("progress", self.progress)
        checks.text("engine", self.engine)
        if self.url is not None:
            checks.text("url", self.url, None)
            if self.own_connections and self.url.startswith("rediss:"):
                raise InvalidArgument("own_connections must be False with a url that uses TLS")
        if self.faults.failovers and (self.url is not None or self.engine == "fakeredis"):
            raise InvalidArgument(
                "failovers must be False with url or fakeredis: they need a private server that "
                "keeps a log of its writes"
            )
        checks.mapping("client_options", self.client_options)
        if chosen := self.client_options.keys() & _CHOOSES_SERVER:
            names = ", ".join(sorted(chosen))
            raise InvalidArgument(f"client_options says {names}: use url to choose the server")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.clients)


def named(clients: Sequence[Program] | Mapping[str, Program]) -> Mapping[str, Program]:
    """The clients by their names: "client 0", "client 1" and so on where they have none."""
    if callable(clients):
        raise InvalidArgument("clients must be several functions, or one in a list")
    if not isinstance(clients, Mapping):
        checks.items("clients", clients)
        clients = {f"client {number}": program for number, program in enumerate(clients)}
    programs = tuple(clients.values())
    if not programs or not all(map(callable, programs)):
        raise InvalidArgument(f"clients must be one or more functions, not {programs!r:.80}")
    for name in clients:
        checks.text("a name of clients", name, None)
    return clients
