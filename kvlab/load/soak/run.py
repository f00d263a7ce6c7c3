"""One soak from its begin to its verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import redis.asyncio

from kvlab import AsyncKv, AutoBatch
from kvlab.core.checks import keep, seconds, whole
from kvlab.instruments.faults.proxy import Proxy
from kvlab.instruments.judges.server_clock import server_clock
from kvlab.load.record.parts import Finding
from kvlab.load.soak.callers import COUNT, Callers
from kvlab.load.soak.diary import Diary, FaultSeen
from kvlab.load.soak.faults import FAULTS, OPTIONS, Target, inflicted
from kvlab.load.soak.verdict import Residue, judged
from kvlab.load.soak.visitors import Visitor
from kvlab.sample_app.child_process import WebApp, serving
from kvlab.server import engines

LIMIT, WINDOW = 4, 2.0
TIMEOUT = 0.3
PREFIX = "soak:"
_ENDLESS = (f"{PREFIX}leaderboard:", f"{PREFIX}{COUNT}")
_WARM = 1.0  # seconds without a fault at the begin
_CALLERS = 4
_QUIET = 10.0  # the most seconds after the last fault until everything has come to rest


@dataclass(frozen=True, slots=True)
class SoakSettings:
    """``longest``: the longest fault and the longest pause between two faults, in seconds."""

    seconds: float
    seed: int = 1
    visitors: int = 12
    longest: float = 1.0

    def __post_init__(self) -> None:
        keep(
            self,
            seconds=seconds("seconds", self.seconds, 1, 86_400),
            seed=whole("seed", self.seed, 0),
            visitors=whole("visitors", self.visitors, 1, 200),
            longest=seconds("longest", self.longest, 0.01, 60),
        )


@dataclass(frozen=True, slots=True)
class Soaked:
    diary: Diary
    findings: list[Finding]

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)


def soak(
    settings: SoakSettings, show: Callable[[float, Diary], object] = lambda *_: None
) -> Soaked:
    """Run the soak; ``show`` is called about once a second with the seconds passed."""
    this, diary, residue = psutil.Process(), Diary(), Residue()
    before = set(this.children(recursive=True))
    with engines.start("valkey", options=OPTIONS, unix_socket=True) as server:
        with Proxy(server.url) as proxy:
            target = Target(server, proxy)
            limits: dict[str, Any] = {"limit": LIMIT, "window": WINDOW, "logins": 1_000_000}
            limits |= {"prefix": PREFIX, "timeout": TIMEOUT, "trusted_proxies": "127.0.0.1"}
            with serving(proxy.url, **limits) as app:
                asyncio.run(_Soak(settings, target, app, diary, residue).run(show))
                residue.log = app.log
        residue.left_open = len(_others(target))
        with server.client() as client:
            clock = server_clock(client)
    residue.processes = [str(p) for p in set(this.children(recursive=True)) - before]
    return Soaked(diary, judged(diary, residue, LIMIT, WINDOW, clock))


def _others(target: Target) -> list[object]:
    """The server's clients besides the one that asks."""
    with target.server.client() as client:
        return [c for c in client.client_list() if c["cmd"] != "client|list"]


class _Soak:
    def __init__(
        self, settings: SoakSettings, target: Target, app: WebApp, diary: Diary, residue: Residue
    ) -> None:
        self._settings, self._target, self._app = settings, target, app
        self._diary, self._residue = diary, residue
        self._process = psutil.Process(app.pid)
        self._began = time.monotonic()

    def _clock(self) -> float:
        return time.monotonic() - self._began

    async def run(self, show: Callable[[float, Diary], object]) -> None:
        settings, port = self._settings, self._target.proxy.port
        visitors = [
            Visitor(number, self._app.url, settings.seed, self._diary, self._clock)
            for number in range(1, settings.visitors + 1)
        ]
        client = redis.asyncio.Redis(port=port, max_connections=50)
        akv = AsyncKv(client, prefix=PREFIX, timeout=TIMEOUT, deadline=2 * TIMEOUT)
        async with client, akv, AutoBatch(akv) as auto:
            callers = Callers(akv, auto, settings.seed, self._diary)
            over = asyncio.Event()
            async with asyncio.TaskGroup() as all_live:
                for visitor in visitors:
                    all_live.create_task(visitor.live(over))
                for _ in range(_CALLERS):
                    all_live.create_task(callers.live(over))
                watching = all_live.create_task(self._watch(show))
                await self._faults()
                over.set()
                watching.cancel()
            await callers.look_back()
            await asyncio.gather(*(visitor.look_back() for visitor in visitors))
        await self._at_rest()
        self._residue.tasks = [str(t) for t in asyncio.all_tasks() - {asyncio.current_task()}]

    async def _faults(self) -> None:
        """One fault after the other, until the time is over and each kind has come once."""
        draw, deck = random.Random(f"{self._settings.seed} faults"), list[str]()
        await asyncio.sleep(_WARM)
        self._residue.descriptors_before = self._descriptors()
        while self._clock() < self._settings.seconds or len(self._diary.faults) < len(FAULTS):
            if not deck:  # no kind comes again before all others have come
                deck = draw.sample(list(FAULTS), len(FAULTS))
            seen = FaultSeen(deck.pop())
            length, pause = (draw.uniform(0.02, 1) * self._settings.longest for _ in range(2))
            self._diary.faults.append(seen)
            await self._inflict(seen.kind, length)
            seen.ended = self._clock()
            await asyncio.sleep(pause)

    async def _inflict(self, kind: str, length: float) -> None:
        fault = inflicted(kind, self._target)
        await asyncio.to_thread(fault.__enter__)
        try:
            await asyncio.sleep(length)
        finally:
            await asyncio.to_thread(fault.__exit__, None, None, None)

    async def _watch(self, show: Callable[[float, Diary], object]) -> None:
        while True:
            self._diary.memory.append(self._process.memory_info().rss)
            show(self._clock(), self._diary)
            await asyncio.sleep(1)

    async def _at_rest(self) -> None:
        """Measure what the app still has, when the visitors are gone."""
        rest = self._clock() + _QUIET
        residue = self._residue
        while True:
            residue.store_connections = len(self._to(self._target.proxy.port))
            residue.descriptors = self._descriptors()
            residue.endless = await asyncio.to_thread(self._endless)
            residue.most_connections = 2 * self._settings.visitors  # each has a second tab
            if self._clock() > rest or not residue.is_too_much:
                return
            await asyncio.sleep(0.1)

    def _to(self, port: int) -> list[object]:
        """The app's connections to that port."""
        return [c for c in self._process.net_connections("tcp") if c.raddr and c.raddr.port == port]

    def _descriptors(self) -> int:
        """What the app has open besides its connections."""
        open_now: int = self._process.num_fds()
        return open_now - len(self._process.net_connections("tcp"))

    def _endless(self) -> list[str]:
        """The keys without a TTL that should have one: not a board of all time, nor a counter."""
        with self._target.server.client(decode_responses=True) as client:
            keys = [key for key in client.scan_iter(f"{PREFIX}*") if client.pttl(key) == -1]
        return [key for key in keys if not key.startswith(_ENDLESS)]
