"""Clients that are slow, that leave, and a thousand at once: the gateway goes on, nothing stays."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
import uvicorn

import kvlab
from kvlab import Key, Op
from kvlab.rest_gateway import Gateway, Tokens
from kvlab.rest_gateway.rights import Rights
from kvlab.rest_gateway.serve import server_of
from kvlab.server.listening import listening
from kvlab.server.running_server import RunningServer

TOKENS = Tokens()
PATIENCE = 1.0
"""Seconds that the gateway waits for a slow client; a busy machine must not make others slow."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[Streams]]


def request(body: bytes, length: int | None = None, token: str = TOKENS.full) -> bytes:
    size = len(body) if length is None else length
    head = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
    return f"{head}Content-Length: {size}\r\n\r\n".encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    size = int(head.partition("content-length: ")[2].partition("\r")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(size))


@asynccontextmanager
async def served(
    url: str, patience: float, **more: int
) -> AsyncIterator[tuple[uvicorn.Server, Dial, Any]]:
    kv = await kvlab.aconnect(url, prefix="slow", timeout=30, deadline=30)
    server = server_of(Gateway(kv, await Rights.of(kv), TOKENS, patience, **more))
    with listening("127.0.0.1", 0) as bound:
        serving = asyncio.create_task(server.serve([bound]))
        port = bound.getsockname()[1]

        async def dial() -> Streams:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            return await asyncio.open_connection(sock=sock, limit=4096)

        await until(lambda: server.started)
        yield server, dial, kv
        server.should_exit = True
        await serving
    await kv.clear()
    await kv.close()


async def until(met: Callable[[], object]) -> None:
    while not met():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def gone(server: uvicorn.Server) -> None:
    """Return when no connection and no request is left; the test's own time limit ends this."""
    await until(lambda: not server.server_state.connections and not server.server_state.tasks)


async def drips_its_head(dial: Dial) -> None:
    reader, writer = await dial()
    writer.write(b"POST / HTTP/1.1\r\nHost")
    assert await reader.read() == b""
    writer.close()


async def drips_its_second_head(dial: Dial) -> None:
    reader, writer = await dial()
    writer.write(request(b'["PING"]'))
    assert await answer(reader) == (200, {"result": "PONG"})
    writer.write(b"POST /")
    assert await reader.read() == b""
    writer.close()


async def says_nothing(dial: Dial) -> None:
    reader, writer = await dial()
    assert await reader.read() == b""
    writer.close()


async def drips_its_body(dial: Dial) -> None:
    reader, writer = await dial()
    writer.write(request(b'["INCR", "slow:n"', 20))
    status, said = await answer(reader)
    assert (status, list(said)) == (408, ["error"])
    assert await reader.read() == b""
    writer.close()


async def leaves_in_its_body(dial: Dial) -> None:
    _, writer = await dial()
    # A path names the command: cut short, the body would still be a value.
    path = request(b"half", 100).replace(b"POST / ", b"POST /set/slow:n ")
    writer.write(path)
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    "client",
    [drips_its_head, drips_its_second_head, says_nothing, drips_its_body, leaves_in_its_body],
)
def test_a_slow_client_is_left(server: RunningServer, client: Any) -> None:
    async def main() -> None:
        async with served(server.url, PATIENCE) as (gateway, dial, kv), asyncio.timeout(60):
            slow = asyncio.create_task(client(dial))
            reader, writer = await dial()
            writer.write(request(b'["ECHO", "meanwhile"]'))
            assert await answer(reader) == (200, {"result": "meanwhile"})
            writer.close()
            await slow
            await gone(gateway)
            assert await kv.run(Op("EXISTS", Key("n"))) == 0  # nothing of it ran

    asyncio.run(main())


def test_a_client_that_does_not_read_is_left(server: RunningServer) -> None:
    async def main() -> None:
        async with served(server.url, PATIENCE) as (gateway, dial, kv), asyncio.timeout(60):
            await kv.run(Op("SET", Key("large"), b"x" * 12_000_000))
            _, writer = await dial()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(request(b'["GET", "slow:large"]'))
            await until(lambda: gateway.server_state.total_requests)
            await gone(gateway)
            writer.close()

    asyncio.run(main())


def test_a_thousand_at_once(server: RunningServer) -> None:
    async def one(dial: Dial, number: int) -> Any:
        reader, writer = await dial()
        token = TOKENS.full if number % 10 else "x" * 43
        bodies = [b'["INCR", "slow:n"]', b'["INCR", "slow:n"', b'["SHUTDOWN"]']
        writer.write(request(bodies[number % 3], token=token))
        said = await answer(reader)
        writer.close()
        return said

    def held() -> tuple[int, int]:
        """Open files of this process, which serves; connections to the store."""
        gc.collect()
        with server.client() as direct:
            return psutil.Process().num_fds(), len(direct.client_list())

    async def main() -> None:
        async with served(server.url, 30) as (gateway, dial, kv), asyncio.timeout(60):
            said = await asyncio.gather(*(one(dial, number) for number in range(1000)))
            statuses = [status for status, _ in said]
            assert [statuses.count(status) for status in (200, 400, 401)] == [300, 600, 100]
            await gone(gateway)
            assert await kv.run(Op("GET", Key("n"))) == b"300"

    before = held()
    asyncio.run(main())
    files, connections = held()
    assert files <= before[0]
    assert connections == before[1]


def test_an_answer_that_is_too_large_is_an_error_and_the_connection_goes_on(
    server: RunningServer,
) -> None:
    async def play() -> None:
        async with served(server.url, 30, max_answer=100) as (_, dial, _kv):
            reader, writer = await dial()

            async def asks(*commands: list[Any], path: str = "/pipeline") -> tuple[int, Any]:
                body = json.dumps(commands if path != "/" else commands[0]).encode()
                writer.write(request(body).replace(b"POST /", b"POST " + path.encode()))
                return await answer(reader)

            append = ["APPEND", "slow:n", "\0" * 30]
            for path in ("/pipeline", "/multi-exec"):
                status, said = await asks(append, ["GET", "slow:n"], path=path)
                assert status == 400
                assert said["error"].startswith("ERR max response size exceeded: ")
            assert (await asks(["GET", "slow:n"], path="/"))[0] == 400
            assert await asks(["STRLEN", "slow:n"], path="/") == (200, {"result": 60})
            many = ["LRANGE", "slow:l", 0, -1]
            await asks(["RPUSH", "slow:l", *"x" * 60], path="/")
            assert (await asks(many, path="/"))[0] == 400
            assert (await asks(["LRANGE", "slow:l", 0, 5], path="/"))[0] == 200
            writer.close()

    asyncio.run(play())
