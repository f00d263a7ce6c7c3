"""A watcher that loses its subscription, and then its server."""

from __future__ import annotations

import secrets
import threading

import redis

from kvlab import FeatureFlags, FlagWatcher, Kv
from kvlab.errors import KvlabError
from kvlab.instruments.faults.proxy import Proxy

AT_MOST = 30.0
"""Seconds to wait for the watcher."""


class WatcherBehindProxy:
    """A watcher whose connections go through a proxy and carry a name that nobody else has.

    ``watcher`` is the watcher, ``kv`` its executor. ``with`` ends them and the proxy.
    """

    def __init__(self, url: str, prefix: str, flags: FeatureFlags) -> None:
        self._name = f"watcher-{secrets.token_hex(4)}"
        self._lost, self._may_reconnect = threading.Event(), threading.Event()
        self._admin = redis.Redis.from_url(url)
        self._proxy = Proxy(url)
        client = redis.Redis.from_url(self._proxy.url, client_name=self._name, retry=None)
        self.kv = Kv(client, prefix=prefix)
        self.watcher = FlagWatcher(self.kv, flags, resync=3600, wait=self._pause)
        self._wait(self.watcher.wait_until(lambda watcher: watcher.stale_since is None, AT_MOST))

    def kill_subscription(self) -> None:
        """The server ends the subscription (CLIENT KILL). The watcher waits for ``reconnect``."""
        for row in self._admin.client_list(_type="pubsub"):
            if row["name"] == self._name:
                self._admin.client_kill_filter(_id=row["id"])
        self._wait(self._lost.wait(AT_MOST))

    def reconnect(self) -> None:
        """From now on the watcher may connect again."""
        self._may_reconnect.set()

    def lose_server(self) -> None:
        """The server is gone: connections are cut, and new ones refused."""
        self._proxy.refuse()
        self._proxy.cut()
        self._wait(self.watcher.wait_until(lambda watcher: watcher.error is not None, AT_MOST))

    def __enter__(self) -> WatcherBehindProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._may_reconnect.set()
        self.watcher.close()
        self.kv.close()
        self.kv.client.close()
        self._proxy.close()
        self._admin.close()

    def _pause(self, seconds: float) -> None:
        """The watcher's wait before it connects again: until ``reconnect``, then a short time."""
        self._lost.set()
        if self._may_reconnect.is_set():
            threading.Event().wait(min(seconds, 0.1))
        self._may_reconnect.wait(AT_MOST)

    @staticmethod
    def _wait(met: bool) -> None:
        if not met:
            raise KvlabError(f"the watcher was not where it should be after {AT_MOST:g} s")
