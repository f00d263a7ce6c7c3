"""The sample web app as a child process, for load tests, notebooks and tests.

Guarantee: inside the ``with`` block the app answers on a free port of loopback. After the block,
and when this process is killed, the app and its workers have ended. The app's keys stay: clear
its prefix.
"""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kvlab.errors import KvlabError
from kvlab.server.guarded_process import Guarded, python_command
from kvlab.server.running_server import last_lines

_START_SECONDS = 30.0
_END_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class WebApp:
    """A running app: ``url`` has no slash at its end; ``pid`` is that of the first process."""

    url: str
    pid: int
    log_file: Path

    @property
    def log(self) -> str:
        """Everything that the app has written so far."""
        return self.log_file.read_text(errors="replace")


@contextmanager
def serving(store: str | None = None, *, workers: int = 1, **settings: object) -> Iterator[WebApp]:
    """Serve the sample app, on the store at the URL ``store`` or on the one of ``connect()``.

    ``settings`` are those of ``kvlab/sample_app/settings.py``, in lower case and without their
    prefix: ``serving(url, algorithm="fixed-window", limit=100, trusted_proxies="127.0.0.1")``.
    Raises :class:`~kvlab.errors.KvlabError`, with the end of the app's log, when the app does not
    start.
    """
    env = {f"KVLAB_APP_{name.upper()}": str(value) for name, value in settings.items()}
    env["PYTHONUNBUFFERED"] = "1"
    if store is not None:
        env["KVLAB_URL"] = store
    with tempfile.TemporaryDirectory(prefix="kvlab-app-") as name:
        directory = Path(name)
        env.setdefault("KVLAB_APP_DATABASE", f"sqlite:///{directory / 'app.db'}")
        child = Guarded(
            python_command("kvlab.sample_app.app", "--port", "0", "--workers", str(workers)),
            log=directory / "app.log",
            directory=directory,
            env=env,
        )
        try:
            app = _started(child, directory / "app.log")
            yield app
        finally:
            _end(child)


def _started(child: Guarded, log: Path) -> WebApp:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        ended = child.has_ended()
        said = log.read_text(errors="replace")
        if ended:
            raise KvlabError("the sample app ended before it served:\n" + last_lines(said))
        # No other process can take the port once the app has named it.
        found = re.search(r"serving (http://(127\.0\.0\.1):(\d+)) ", said)
        if found and _answers(found[2], int(found[3])):
            return WebApp(found[1], child.pid, log)
        time.sleep(0.02)
    raise KvlabError(
        f"the sample app did not answer within {_START_SECONDS:.0f} s:\n"
        + last_lines(log.read_text(errors="replace"))
    )


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=_START_SECONDS)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False  # the port is bound, and the app does not serve yet
    finally:
        connection.close()


def _end(child: Guarded) -> None:
    child.signal(signal.SIGTERM)
    try:
        child.process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        pass  # a frozen process, for instance
    finally:
        child.end()
