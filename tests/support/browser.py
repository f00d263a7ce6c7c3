"""A real browser for tests: headless Chromium, driven through its own debugging protocol."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

from kvlab.server.guarded_process import Guarded

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_START_SECONDS = 30.0


def program() -> str | None:
    """Where the browser is; None when there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Page:
    """One tab. Each call waits for the browser's answer."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=20, suppress_origin=True)
        self._number = 0
        self._events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol; its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while (said := json.loads(self._socket.recv())).get("id") != self._number:
            self._events.append(said)
        assert "error" not in said, said["error"]
        result: dict[str, Any] = said["result"]
        return result

    def told(self, event: str) -> list[dict[str, Any]]:
        """What the browser has told of such an event, up to the last answer."""
        return [one["params"] for one in self._events if one.get("method") == event]

    def value(self, script: str) -> Any:
        """What a piece of JavaScript gives, run as if in the console; promises are awaited."""
        done = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait in the page until a JavaScript condition is true; 10 s at most."""
        self.value(
            "new Promise((done, fail) => { const began = Date.now(); (function look() {"
            f"if ({condition}) done(); else if (Date.now() - began > 1e4) "
            "fail(new Error(document.body.innerText)); else setTimeout(look, 10); })(); })"
        )

    def open(self, url: str) -> None:
        """Go there, or load it again, and wait until it has loaded."""
        self.value("window.leaving = true")
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + _START_SECONDS
        while self.value("document.readyState !== 'complete' || 'leaving' in window"):
            assert time.monotonic() < deadline, f"{url} did not load"

    def close(self) -> None:
        self._socket.close()


@contextmanager
def browsing(directory: Path) -> Iterator[Page]:
    """An empty tab of a browser with a profile of its own in ``directory``."""
    found = program()
    assert found is not None
    ports = directory / "DevToolsActivePort"
    child = Guarded(
        (
            *(found, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-dev-shm-usage", "--disable-background-networking"),
            *("--remote-debugging-port=0", f"--user-data-dir={directory}", "about:blank"),
        ),
        log=directory / "browser.log",
        directory=directory,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not (ports.exists() and ports.read_text().count("\n")):
            log = (directory / "browser.log").read_text(errors="replace")
            assert not child.has_ended(), log[-2000:]
            assert time.monotonic() < deadline, log[-2000:]
            time.sleep(0.02)
        connection = http.client.HTTPConnection("127.0.0.1", int(ports.read_text().split()[0]))
        connection.request("GET", "/json/list")
        tabs = json.load(connection.getresponse())
        connection.close()
        page = Page(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))
        yield page
        page.close()
    finally:
        child.end()
