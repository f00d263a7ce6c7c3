"""One HTTP connection of a visitor: JSON in both directions, and a visitor who may hang up."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

PATIENCE = 30.0
"""Seconds in which the app must answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Any
    cookie: str | None


class Browser:
    """``address``: the client's address, as a proxy in front of the app would forward it."""

    def __init__(self, url: str, address: str) -> None:
        self._host = url.removeprefix("http://")
        self.address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, body: Any = None, *, cookie: str | None = None, **more: str
    ) -> Answer:
        """The app's answer. Raises OSError, or TimeoutError after ``PATIENCE`` seconds."""
        try:
            async with asyncio.timeout(PATIENCE):
                reader = await self._send(method, path, body, cookie, more)
                return await _answer(reader)
        except BaseException:
            self.close()
            raise

    async def hang_up(self, method: str, path: str) -> None:
        """Ask, and close the connection without waiting for the answer."""
        await self._send(method, path, None, None, {})
        self.close()

    async def _send(
        self, method: str, path: str, body: Any, cookie: str | None, more: dict[str, str]
    ) -> asyncio.StreamReader:
        if self._streams is None:
            host, port = self._host.split(":")
            self._streams = await asyncio.open_connection(host, int(port))
        reader, writer = self._streams
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"Host": self._host, "X-Forwarded-For": self.address}
        headers |= {"Content-Length": str(len(content)), "Content-Type": "application/json"}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        if cookie is not None:
            headers["Cookie"] = cookie
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        await writer.drain()
        return reader

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
    cookie = next(
        (li[12:].split(";")[0] for li in head if li.lower().startswith("set-cookie:")), None
    )
    text = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(int(head[0].split()[1]), json.loads(text), cookie)
