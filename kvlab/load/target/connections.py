"""Redis connections of a load run: cheap to check, and able to lose replies."""

from __future__ import annotations

import itertools
import select
from typing import Any

import gevent.monkey
import redis
from redis.connection import AbstractConnection
from redis.retry import Retry

from kvlab.core.transport.connections import MAX_CONNECTIONS

_poll = gevent.monkey.get_original("select", "poll")


class _LoadConnection(AbstractConnection):
    """A connection of a load run.

    With ``lose_every`` n, every n-th reply is lost on its way: the server has executed the
    command, and its client gets a ConnectionError.
    """

    def __init__(self, *args: Any, lose_every: int = 0, **kwargs: Any) -> None:
        self._lose_every, self._replies, self._greeting = lose_every, itertools.count(1), False
        super().__init__(*args, **kwargs)

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        self._greeting = True
        try:
            super().connect_check_health(*args, **kwargs)
        finally:
            self._greeting = False

    def can_read(self, timeout: float = 0) -> bool:
        """Whether bytes have arrived. gevent's own poll would cost a fifth of a call."""
        if timeout or self._sock is None:
            return super().can_read(timeout)
        now = _poll()
        now.register(self._sock, select.POLLIN)
        return bool(now.poll(0))

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        may_lose = self._lose_every and not self._greeting
        if may_lose and next(self._replies) % self._lose_every == 0:
            super().read_response(*args, **kwargs)
            AbstractConnection.disconnect(self)
            raise redis.ConnectionError("the connection was lost before the reply arrived")
        return super().read_response(*args, **kwargs)


class _Tcp(_LoadConnection, redis.Connection): ...


class _Tls(_LoadConnection, redis.SSLConnection): ...


class _Unix(_LoadConnection, redis.UnixDomainSocketConnection): ...


_CONNECTIONS = {"unix": _Unix, "rediss": _Tls}


def load_client(url: str, *, retry: Retry, lose_every: int = 0) -> redis.Redis:
    """A client for the users of one process."""
    pool = redis.ConnectionPool.from_url(
        url,
        connection_class=_CONNECTIONS.get(url.partition(":")[0], _Tcp),
        lose_every=lose_every,
        max_connections=MAX_CONNECTIONS,
        retry=retry,
    )
    return redis.Redis(connection_pool=pool)
