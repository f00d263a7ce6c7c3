"""The gateway as an ASGI app: who asks, what is asked, what the store answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from kvlab.core.executors.async_client import AsyncKv
from kvlab.core.op import Op
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.rest.protocol import MAX_ANSWER
from kvlab.rest_gateway.answer import Answer, RestRefused, answer, error
from kvlab.rest_gateway.request import Asked, asked
from kvlab.rest_gateway.rights import Rights
from kvlab.rest_gateway.scripts import Scripts
from kvlab.rest_gateway.tokens import Tokens, token_in

MAX_BODY = 16 * 1024 * 1024
"""The most bytes of a request's body."""
PATIENCE = 30.0
"""Seconds in which a head and a body must come, and a part of an answer must be taken."""

_UNREAD = frozenset({401, 405, 408, 413})
"""Answers that do not wait for the end of the body: the connection ends with them."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gateway:
    """An ASGI app over the store of ``kv`` with its ``rights``; the caller closes ``kv``."""

    def __init__(
        self,
        kv: AsyncKv,
        rights: Rights,
        tokens: Tokens,
        patience: float = PATIENCE,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        self._kv, self._rights, self._tokens = kv, rights, tokens
        self.patience, self._max_answer = patience, max_answer
        self._scripts = Scripts()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            said = await self._answer(scope, receive)
        except RestRefused as refused:
            said = error(refused.status, refused.text)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(said.body)).encode()),
        ]
        if said.status in _UNREAD:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": said.status, "headers": headers})
        await send({"type": "http.response.body", "body": said.body})

    async def _answer(self, scope: Message, receive: Receive) -> Answer:
        headers = dict(scope["headers"])
        read_only = self._tokens.is_read_only(token_in(scope["headers"], scope["query_string"]))
        if scope["method"] not in ("GET", "HEAD", "POST", "PUT"):
            raise RestRefused(405, "ERR only GET, HEAD, POST and PUT are answered")
        if headers.get(b"upstash-response-format", b"json").lower() != b"json":
            raise RestRefused(
                400, "ERR answers are JSON: no other Upstash-Response-Format is known"
            )
        body = await self._body(headers, receive)
        wanted = asked(scope["raw_path"], scope["query_string"], body)
        results = await self._run(wanted, read_only)
        base64 = headers.get(b"upstash-encoding", b"").lower() == b"base64"
        return answer(
            results,
            batch=wanted.batch,
            atomic=wanted.atomic,
            base64=base64,
            most=self._max_answer,
        )

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        said = headers.get(b"content-length", b"0")
        if not said.isdigit() or len(said) > 12 or int(said) > MAX_BODY:
            raise _too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self.patience):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":  # the client left: nothing may run
                        raise RestRefused(400, "ERR the body has ended too early")
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY:
                        raise _too_large()
                    if not message.get("more_body"):
                        return bytes(body)
        except TimeoutError:
            raise RestRefused(
                408, f"ERR the body did not come within {self.patience:g} s"
            ) from None

    async def _run(self, wanted: Asked, read_only: bool) -> list[Any]:
        try:
            refusals = [self._rights.refusal(c, read_only=read_only) for c in wanted.commands]
            commands = [self._scripts.translated(command) for command in wanted.commands]
            first = next(filter(None, refusals), None)
            if first is not None and (wanted.atomic or not wanted.batch):
                raise RestRefused(400, first)
            ops: list[Op[Any]] = [
                Op(name, *arguments)
                for (name, arguments), refusal in zip(commands, refusals, strict=True)
                if refusal is None
            ]
            run = self._kv.run(*ops, atomic=wanted.atomic, return_exceptions=True)
            replies = iter(await run)
        except InvalidArgument as problem:
            raise RestRefused(400, f"ERR {problem}") from None
        except KvlabError as problem:
            return [problem] * len(wanted.commands)
        return [
            KvlabError(refusal)
            if refusal is not None
            else self._scripts.answered(command, next(replies))
            for command, refusal in zip(commands, refusals, strict=True)
        ]


def _too_large() -> RestRefused:
    return RestRefused(413, f"ERR max request size exceeded: a body has at most {MAX_BODY} bytes")
