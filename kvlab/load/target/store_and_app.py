"""The store and the app that a run loads: chosen or started, broken at set times, ended."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

import gevent
import redis

from kvlab.core.server_url import server_url
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.load.fault_plan import PlannedFault, durable_server
from kvlab.load.record.parts import Fault
from kvlab.load.target.app_client import AppClient, AppFailed, is_http
from kvlab.sample_app.child_process import serving
from kvlab.server.running_server import RunningServer


class LoadTarget:
    """``host``: what users load, as Locust has it. ``store``: the URL of the store behind it.

    A run with faults starts a store of its own. ``faults``: what was done to the store in the
    current run; ``problem``: a fault that failed.
    """

    def __init__(self, host: str | None, plan: tuple[PlannedFault, ...]) -> None:
        self._started = contextlib.ExitStack()
        self._server: RunningServer | None = None
        self._plan = plan
        self.host = host
        self.faults: list[Fault] = []
        self.problem: str | None = None
        if not plan:
            self.store = server_url(None if is_http(host) else host)
            return
        if host:
            raise InvalidArgument(
                "faults are for a server that nobody else uses: without --host, the run starts one"
            )
        self._server = self._started.enter_context(durable_server())
        self.store = self._server.url

    def start_app(self, prefix: str, settings: Mapping[str, Any]) -> None:
        """Start the sample app on the store: users load the app from now on."""
        given = {"trusted_proxies": "127.0.0.1", "prefix": prefix, **settings}
        self.host = self._started.enter_context(serving(self.store, **given)).url

    def check_app(self) -> None:
        """Raises AppFailed when users load an app and the app does not answer."""
        if self.host is not None and is_http(self.host):
            try:
                AppClient(self.host).get("/healthz")
            except AppFailed as problem:
                raise AppFailed(f"{problem}; start that app, or correct --host") from None

    def start_faults(self, began: float) -> list[gevent.Greenlet]:
        """A run began, in Unix seconds: the greenlets that inflict its faults."""
        self.faults, self.problem = [], None
        return [gevent.spawn(self._inflict, fault, began) for fault in self._plan]

    def _inflict(self, fault: PlannedFault, run_began: float) -> None:
        assert self._server is not None
        gevent.sleep(max(0.0, run_began + fault.at - time.time()))
        began = time.time()
        try:
            fault.inflict(self._server, gevent.sleep)
        except (KvlabError, redis.RedisError, OSError) as problem:
            self.problem = f"the {fault.kind} at {fault.at:g} s failed: {problem}"
        finally:  # the run may end during a fault, which users have felt all the same
            at, took = round(began - run_began, 3), round(time.time() - began, 3)
            self.faults.append(Fault(fault.kind, at, took))

    def recover(self) -> None:
        """Start the server again when the run ended in the middle of a restart."""
        if self._server is not None and self._server.has_ended():
            self._server.restart()

    def close(self) -> None:
        """End what this run has started."""
        self._started.close()
