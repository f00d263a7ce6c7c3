"""The load test of this room, as the lifecycle runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kvlab
from kvlab.load.process import Process
from kvlab.load.rate_limiter.decisions import Decisions
from kvlab.load.rate_limiter.settings import LimiterSettings, add_options
from kvlab.load.rate_limiter.user import bare_hit
from kvlab.load.rate_limiter.verdict import conclude
from kvlab.load.verdict import Conclusion


class RateLimiterLoad:
    """See :class:`kvlab.load.verdict.LoadTest`."""

    pattern = "rate-limiter"
    settings = LimiterSettings

    def add_options(self, add: Callable[..., Any]) -> None:
        add_options(add)

    def first(self, settings: LimiterSettings) -> kvlab.Op[Any]:
        op: kvlab.Op[Any] = settings.limiter().peek("bare")
        return op

    def title(self, settings: LimiterSettings) -> str:
        name = "the naive sliding window" if settings.naive else settings.algorithm
        name += " beside the naive control" * settings.control
        return (
            f"Rate limiter: {name}, {settings.limit} per {settings.window:g} s, "
            f"{settings.keys} key{'s' * (settings.keys != 1)}"
        )

    def app_settings(self, settings: LimiterSettings) -> dict[str, Any]:
        return {
            "algorithm": settings.algorithm,
            "limit": settings.limit,
            "window": settings.window,
        }

    def facts(self, settings: LimiterSettings) -> Decisions:
        return Decisions()

    def beside(self, process: Process[LimiterSettings, Decisions]) -> None:
        """Nothing."""

    def bare(self, process: Process[LimiterSettings, Decisions]) -> Callable[[], object]:
        return bare_hit(process)

    def judge(self, process: Process[LimiterSettings, Decisions], began: float) -> Conclusion:
        return conclude(process, began)
