"""A cluster and a Sentinel that speak TLS, by their URL."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from kvlab import FixedWindow, aconnect, connect
from kvlab.errors import ServerUnavailable
from kvlab.server import engines
from kvlab.server.guarded_process import Guarded
from kvlab.server.running_server import RunningServer, free_port

HALVES = ((0, 8191), (8192, 16383))
HIT = [FixedWindow("tls", limit=5, window=60).hit(i) for i in range(20)]


@pytest.fixture(scope="module")
def ports(of_tls: dict[str, str]) -> Iterator[list[int]]:
    """The ports for TLS of two nodes, which speak TLS to each other too."""
    found = [free_port() for _ in HALVES]
    with contextlib.ExitStack() as ends:
        try:
            nodes = [ends.enter_context(node(of_tls, port)) for port in found]
        except ServerUnavailable as problem:
            pytest.skip(f"redis-server on PATH was built without TLS: {problem}")
        clients = [ends.enter_context(one.client()) for one in nodes]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER ADDSLOTSRANGE", *HALVES[number])
        clients[0].execute_command("CLUSTER MEET", "127.0.0.1", found[1])
        for client in clients:
            until(lambda client=client: b":ok" in client.execute_command(b"CLUSTER", "INFO"))
        yield found


def until(met: Callable[[], object]) -> None:
    """Wait until something that must come has come."""
    never = threading.Event()
    for _ in range(2_000):
        with contextlib.suppress(redis.ConnectionError):
            if met():
                return
        never.wait(0.01)
    raise AssertionError("did not come")


def node(of_tls: dict[str, str], port: int) -> contextlib.AbstractContextManager[RunningServer]:
    options = {"cluster-enabled": "yes", "tls-cluster": "yes", "tls-port": str(port)}
    return engines.start("redis", options={**of_tls, **options})


def test_a_cluster_by_tls(ports: list[int], of_tls: dict[str, str]) -> None:
    trusted = f"ssl_ca_certs={of_tls['tls-ca-cert-file']}"
    address = f"rediss+cluster://localhost:{ports[1]}"

    async def main() -> None:
        async with await aconnect(f"{address}?{trusted}", prefix="t") as akv:
            assert {d.remaining for d in await akv.run(HIT)} == {3}
        with pytest.raises(ServerUnavailable, match=r"(?i)certificate"):
            async with await aconnect(address, deadline=0.1) as akv:
                await akv.run(HIT[0])

    with connect(f"{address}?{trusted}", prefix="t") as kv:
        assert {d.remaining for d in kv.run(HIT)} == {4}
        assert {at[1] for at in kv._nodes} == {*ports}
        asyncio.run(main())
        assert kv.clear() == 20
    with pytest.raises(ServerUnavailable, match=r"(?i)certificate"):
        connect(address)


@pytest.fixture
def sentinel(of_tls: dict[str, str], tmp_path: Path) -> Iterator[int]:
    """The port for TLS of a Sentinel, which speaks TLS to its primary too."""
    primary, port = free_port(), free_port()
    lines = ["port 0", f"tls-port {port}", "tls-replication yes"]
    lines += [f"{name} {value}" for name, value in of_tls.items()]
    lines += [f"sentinel monitor orders 127.0.0.1 {primary} 1"]
    (conf := tmp_path / "sentinel.conf").write_text("\n".join(lines))
    binary = engines.find("redis").command
    assert binary is not None
    with engines.start("redis", options={**of_tls, "tls-port": str(primary)}):
        watcher = Guarded(
            (*binary, str(conf), "--sentinel"), log=tmp_path / "log", directory=tmp_path
        )
        trusted = of_tls["tls-ca-cert-file"]
        try:
            with redis.Redis(port=port, ssl=True, ssl_ca_certs=trusted) as asked:
                until(asked.ping)
            yield port
        finally:
            watcher.end()


def test_a_primary_behind_a_sentinel_by_tls(
    ports: list[int], sentinel: int, of_tls: dict[str, str]
) -> None:
    address = f"rediss+sentinel://localhost:{sentinel}/orders"
    trusted = f"?ssl_ca_certs={of_tls['tls-ca-cert-file']}"

    async def main() -> None:
        async with await aconnect(address + trusted, prefix="t") as akv:
            assert (await akv.run(HIT[0])).remaining == 3

    with connect(address + trusted, prefix="t") as kv:
        assert kv.run(HIT[0]).remaining == 4
        asyncio.run(main())
    untrusting = connect(address, deadline=0.1)
    with untrusting, pytest.raises(ServerUnavailable, match="orders"):
        untrusting.run(HIT[0])
