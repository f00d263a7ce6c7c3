"""What holds for every answer of the sample app, whatever the route: pure ASGI.

* A request that changes something is refused when a browser sent it for another site. Browsers
  name the site in Sec-Fetch-Site, older ones in Origin; SameSite=Lax alone does not stop another
  port of the same host. A client without both headers is no browser and has no user's cookie.
* An answer of the API is for one visitor at one moment: no cache may keep it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kvlab.sample_app.errors import answer

_SAFE = {"GET", "HEAD", "OPTIONS"}


class Guard:
    """Refuses requests from other sites and marks every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["method"] not in _SAFE and _is_foreign(Headers(scope=scope)):
            refused = answer(403, "a browser sent this for another site")
            await refused(scope, receive, marked)
            return
        await self.app(scope, receive, marked)


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
