"""Callers in the soak's own process: they hold locks, are cancelled, and count in batches."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from kvlab import AsyncKv, AutoBatch, Key, Lock, Op
from kvlab.core.hold import Holding
from kvlab.errors import KvlabError, LockLost, Outage, OutcomeUnknown
from kvlab.load.soak.diary import Diary

FENCES = "fences rise, and no two callers hold one lock for certain"
FREE = "no lock is stuck"
ERRORS = "a caller meets outages, and no other error"
COUNTS = "an addition counts once, or its outcome is said to be unknown"
COUNT = "count"
LOCKS = tuple(Lock(f"soak {number}", ttl=2.0) for number in range(2))


class Callers:
    """The callers share one executor, and one AutoBatch on it."""

    def __init__(self, akv: AsyncKv, auto: AutoBatch, seed: int, diary: Diary) -> None:
        self._akv, self._auto, self._diary = akv, auto, diary
        self._random = random.Random(f"{seed} callers")
        self._fences = dict.fromkeys(LOCKS, 0)
        self._inside: dict[Lock, set[Holding]] = {lock: set() for lock in LOCKS}

    async def live(self, until: asyncio.Event) -> None:
        while not until.is_set():
            act = self._random.choice([self._hold, self._hold_renewed, self._count])
            work = act()
            if self._random.random() < 0.2:
                work = _cancelled(work, self._random.uniform(0, 0.2), self._random.random() < 0.5)
            self._diary.done[ERRORS] += 1
            try:
                await work
            except Exception as problem:
                self._diary.wrong[ERRORS].append(repr(problem))
            await asyncio.sleep(self._random.uniform(0, 0.05))

    async def look_back(self) -> None:
        """When every fault is healed, each lock is free after its TTL, and each count is right."""
        for lock in LOCKS:
            self._diary.done[FREE] += 1
            held = await self._akv.run(lock.acquire(lock.ttl + 1))
            if held is None:
                self._diary.wrong[FREE].append(f"{lock} is still taken")
            else:
                await self._akv.run(lock.release(held))
        for name, counted in self._diary.counters.items():
            value = int(await self._akv.run(Op("GET", Key(name), idempotent=True)) or 0)
            self._diary.done[COUNTS] += counted.certain
            if not counted.certain <= value <= counted.certain + counted.unknown:
                self._diary.wrong[COUNTS].append(f"{name} is {value}: {counted}")

    async def _hold(self, renew: bool = False) -> None:
        lock = self._random.choice(LOCKS)
        try:
            async with self._akv.hold(lock, wait=0.5, renew=renew) as held:
                inside = self._inside[lock]
                inside.add(held)
                try:
                    self._check(lock, held)
                    await asyncio.sleep(self._random.uniform(0, 0.1))
                    self._check(lock, held)
                finally:
                    inside.remove(held)
        except (Outage, LockLost, TimeoutError):
            pass  # LockNotAcquired is a TimeoutError

    async def _hold_renewed(self) -> None:
        await self._hold(renew=True)

    def _check(self, lock: Lock, held: Holding) -> None:
        self._diary.done[FENCES] += 1
        certain = [one.fence for one in self._inside[lock] if one.remaining]
        if len(certain) > 1:
            self._diary.wrong[FENCES].append(f"{lock}: {certain} at once")
        if held.remaining and held.fence < self._fences[lock]:
            self._diary.wrong[FENCES].append(f"{lock}: {held.fence} after {self._fences[lock]}")
        self._fences[lock] = max(self._fences[lock], held.fence)

    async def _count(self) -> None:
        name = f"{COUNT}{self._random.randrange(4)}"
        add: Op[int] = Op("INCR", Key(name), decode=int)
        callers = self._random.randrange(1, 20)
        await asyncio.gather(*(self._add(name, add) for _ in range(callers)))

    async def _add(self, name: str, add: Op[int]) -> None:
        counted = self._diary.counters[name]
        try:
            await self._auto.run(add)
        except OutcomeUnknown:
            counted.unknown += 1
        except asyncio.CancelledError:
            counted.unknown += 1
            raise
        except Outage:
            pass  # it was not applied
        except KvlabError as problem:
            self._diary.wrong[COUNTS].append(repr(problem))
        else:
            counted.certain += 1


async def _cancelled(work: Coroutine[Any, Any, None], after: float, again: bool) -> None:
    """Cancel the work once, or at each of its awaits, as anyio does."""
    task = asyncio.ensure_future(work)
    await asyncio.wait([task], timeout=after)
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0 if again else None)
        await asyncio.sleep(0)
    if not task.cancelled():
        task.result()
