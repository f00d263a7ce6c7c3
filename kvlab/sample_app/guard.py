"""What holds for every answer of the sample app, whatever the route: pure ASGI.

* The app answers to addresses, to localhost and to the names of its settings. A name of an
  attacker's that points at this machine (DNS rebinding) makes the attacker's page and this app one
  site for the browser, cookies included; such a request names the attacker's host.
* A request that changes something is refused when a browser sent it for another site. Browsers
  name the site in Sec-Fetch-Site, older ones in Origin; SameSite=Lax alone does not stop another
  port of the same host. A client without both headers is no browser and has no user's cookie.
* An answer of the API is for one visitor at one moment: no cache may keep it.
* HEAD is GET without a body, which the server leaves out.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvlab.sample_app.errors import MARKS, answer

_HOST = re.compile(r"(?:\[(?P<six>[^]]+)]|(?P<name>[a-z0-9._-]+))(?::\d*)?")
_SAFE = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """Refuses requests for other hosts and from other sites, and marks every answer.

    ``hosts``: names that the app answers to, besides localhost and every address.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in MARKS.items():
                    headers.setdefault(name, value)
            await send(message)

        app, headers = self.app, Headers(scope=scope)
        if not self._is_ours(headers.get("host")):
            app = answer(400, "the app does not answer to this host; see KVLAB_APP_HOSTS")
        elif scope["method"] not in _SAFE and _is_foreign(headers):
            app = answer(403, "a browser sent this for another site")
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await app(scope, receive, marked)

    def _is_ours(self, host: str | None) -> bool:
        found = _HOST.fullmatch((host or "").lower())
        if found is None:
            return False
        name = found["name"] or found["six"]
        return name == "localhost" or name in self.hosts or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_foreign(headers: Headers) -> bool:
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc != headers.get("host")
    except ValueError:
        return True
