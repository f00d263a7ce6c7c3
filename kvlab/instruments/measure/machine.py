"""The circumstances of a number: language, machine, engine. Never a host name, a user or a path."""

from __future__ import annotations

import os
import platform
from typing import Any, Protocol

import redis

from kvlab.core.checks import shown
from kvlab.errors import InvalidArgument
from kvlab.version import __version__


class HasClient(Protocol):
    """The part of a Kv that is used here: its client for INFO, and its counter of round trips."""

    @property
    def client(self) -> Any: ...
    @property
    def round_trips(self) -> int: ...


def environment(kv: HasClient | None = None) -> dict[str, Any]:
    """What a reader needs to judge a number; never a host name, a user or a path."""
    check_executor(kv)
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "os": {"Darwin": "macOS"}.get(platform.system(), platform.system()),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "redis_py": redis.__version__,
        "kvlab": __version__,
    }
    return facts | (engine(kv.client) if kv is not None else {})


def check_executor(kv: HasClient | None) -> None:
    """``kv`` is None, or has a client and counts round trips."""
    if kv is not None and not (hasattr(kv, "client") and hasattr(kv, "round_trips")):
        raise InvalidArgument(f"kv must be a kvlab.Kv, not {shown(kv)}")


def engine(client: Any) -> dict[str, str]:
    """Engine and version by ``INFO server`` of a synchronous redis-py client."""
    try:
        info = client.info("server")
    except redis.ResponseError:
        return {"engine": "unknown", "engine_version": "unknown"}
    if "valkey_version" in info:
        return {"engine": "Valkey", "engine_version": str(info["valkey_version"])}
    return {"engine": "Redis", "engine_version": str(info.get("redis_version", "unknown"))}
