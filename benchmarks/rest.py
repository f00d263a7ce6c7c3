"""What an op costs over REST, beside a bare httpx call of the same body to the same gateway.

And what the gateway costs: a bare httpx call to it, beside one to an app that answers a constant.
All on this machine, without TLS.

Not promised: anything about a store that is farther away; there the ratios go to 1.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx

from kvlab import Key, Op, aconnect, connect
from kvlab.bench import Bench, Case, Peer
from kvlab.rest_gateway import ServedGateway, serving

BURST = 64
"""Calls that are awaited at once."""
GET: Op[Any] = Op("GET", Key("k"))
TEN = [GET] * 10

BARE = """
import asyncio, os, socket, sys, threading, uvicorn
threading.Thread(target=lambda: sys.stdin.read() or os._exit(0), daemon=True).start()
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    body, kind = b'{"result":"dg=="}', (b"content-type", b"application/json")
    size = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [kind, size]})
    await send({"type": "http.response.body", "body": body})
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
sock.bind(("127.0.0.1", 0))
sock.listen(128)
print(sock.getsockname()[1], flush=True)
server = uvicorn.Server(uvicorn.Config(app, http="h11", lifespan="off", log_level="error"))
asyncio.run(server.serve([sock]))
"""


def cases(bench: Bench) -> Iterator[Case]:
    """One call after the other, then bursts, then the gateway."""
    gateway = bench.stack.enter_context(serving(bench.url))
    kv = bench.stack.enter_context(
        connect(gateway.url, token=gateway.token, prefix=bench.kv.prefix)
    )
    http = bench.stack.enter_context(httpx.Client(**_settings(gateway)))
    kv.run(Op("SET", Key("k"), "v", "EX", 3600))
    one = json.dumps(["GET", kv.name(Key("k"))], separators=(",", ":")).encode()
    ten = b"[" + b",".join([one] * 10) + b"]"
    less = "decodes nothing"
    for name, ours, raw in (
        ("GET", lambda: kv.run(GET), lambda: http.post("/", content=one).json()),
        ("10 GETs", lambda: kv.run(*TEN), lambda: http.post("/pipeline", content=ten).json()),
    ):
        peers = {"bare httpx": Peer(bench.calls(raw), "httpx", less)}
        yield Case(name, "one client, one request after the other", bench.calls(ours), peers)
    yield from awaited(bench, gateway, one)
    constant = bench.stack.enter_context(httpx.Client(**_settings(gateway, _bare(bench))))
    yield Case(
        "the gateway",
        "a bare httpx call of GET to the gateway, against one to an app on uvicorn that answers a "
        "constant",
        bench.calls(lambda: http.post("/", content=one).json()),
        {
            "a constant": Peer(
                bench.calls(lambda: constant.post("/", content=one).json()), "uvicorn"
            )
        },
        subject="the gateway",
    )


def awaited(bench: Bench, gateway: ServedGateway, one: bytes) -> Iterator[Case]:
    """One task that awaits one call after the other; then many calls at once."""
    connecting = aconnect(gateway.url, token=gateway.token, prefix=bench.kv.prefix)
    akv = bench.runner.run(connecting)
    http = httpx.AsyncClient(**_settings(gateway))
    bench.stack.callback(lambda: bench.runner.run(http.aclose()))
    bench.stack.callback(lambda: bench.runner.run(akv.close()))

    async def ours() -> None:
        await asyncio.gather(*(akv.run(GET) for _ in range(BURST)))

    async def raw() -> None:
        await asyncio.gather(*(http.post("/", content=one) for _ in range(BURST)))

    peers = {"bare httpx": Peer(bench.awaited(lambda: http.post("/", content=one)), "httpx")}
    what = "one task, one await after the other"
    yield Case("async GET", what, bench.awaited(lambda: akv.run(GET)), peers)
    peers = {"bare httpx": Peer(bench.awaited(raw), "httpx")}
    what, burst = "as many awaits at once", bench.awaited(ours)
    yield Case(f"{BURST} GETs at once", what, burst, peers, long=True)


def _settings(gateway: ServedGateway, url: str | None = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {gateway.token}", "Upstash-Encoding": "base64"}
    return {"base_url": url or gateway.url, "headers": headers, "timeout": 30, "trust_env": False}


def _bare(bench: Bench) -> str:
    """The URL of the app that answers a constant; it ends with the benchmark, by kill -9 too."""
    command, pipe = [sys.executable, "-c", BARE], subprocess.PIPE
    app = bench.stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True))
    bench.stack.callback(app.kill)
    assert app.stdout is not None
    return f"http://127.0.0.1:{int(app.stdout.readline())}"
