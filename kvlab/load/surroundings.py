"""What stands around a load run: the store, perhaps the sample app, and faults at set times."""

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
from kvlab.load.http_target import HttpTarget, is_http
from kvlab.load.record.run import Fault
from kvlab.sample_app.child_process import serving
from kvlab.server.running_server import RunningServer

LATE = 1.0
"""Seconds after its client gave up in which a command may still run, if nobody stops the server."""


class Stage:
    """``host``: what the users load, as Locust has it; ``store``: the URL behind it."""

    def __init__(self, given: Any, host: str | None, prefix: str) -> None:
        self._own = contextlib.ExitStack()
        self._plan = [PlannedFault.parse(text) for text in given.fault]
        self._server: RunningServer | None = None
        self.host, self.prefix = host, prefix
        self.faults: list[Fault] = []
        self.problem: str | None = None
        if late := [fault for fault in self._plan if given.run_time and fault.at >= given.run_time]:
            raise InvalidArgument(
                f"a {late[0].kind} at {late[0].at:g} s is after the end of a run of "
                f"{given.run_time:g} s"
            )
        if self._plan:
            if host:
                raise InvalidArgument(
                    "faults are for a server that nobody else uses: leave --host out and one is "
                    "started"
                )
            self._server = self._own.enter_context(durable_server())
            self.store = self._server.url
        else:
            self.store = server_url(None if is_http(host) else host)

    @property
    def late(self) -> float:
        """Seconds after a client gave up in which its command may still run."""
        return max((fault.seconds for fault in self._plan), default=0.0) + LATE

    def serve(self, settings: Mapping[str, Any]) -> None:
        """Start the sample app: from now on the users load that."""
        given = {"trusted_proxies": "127.0.0.1", "prefix": self.prefix, **settings}
        self.host = self._own.enter_context(serving(self.store, **given)).url

    def greet(self) -> None:
        """Raises HttpFailed when it is an app and does not answer."""
        if is_http(self.host):
            HttpTarget(str(self.host)).get("/healthz")

    def begin(self) -> list[gevent.Greenlet]:
        """A run begins: what will inflict the faults."""
        self.faults, self.problem = [], None
        began = time.time()
        return [gevent.spawn(self._inflict, fault, began) for fault in self._plan]

    def _inflict(self, fault: PlannedFault, run_began: float) -> None:
        assert self._server is not None
        gevent.sleep(max(0.0, run_began + fault.at - time.time()))
        began = time.time()
        try:
            fault.inflict(self._server, gevent.sleep)
        except (KvlabError, redis.RedisError, OSError) as problem:
            self.problem = f"the {fault.kind} at {fault.at:g} s could not be done: {problem}"
        finally:  # the run may end first: it was felt all the same
            at, took = round(began - run_began, 3), round(time.time() - began, 3)
            self.faults.append(Fault(fault.kind, at, took))

    def recover(self) -> None:
        """The run is over, perhaps in the middle of a restart."""
        if self._server is not None and self._server.has_ended():
            self._server.restart()

    def close(self) -> None:
        self._own.close()
