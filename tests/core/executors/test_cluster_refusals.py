"""Nodes that refuse, forget, contradict each other or point into the void: nodes made by hand.

Each call ends within its ``deadline``, with an error of its own op; time is the tests' own.
"""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.crc import key_slot

from kvlab import AsyncKv, Key, Kv, Op, connect
from kvlab.errors import (
    BatchFailed,
    CannotServe,
    Closed,
    OutcomeUnknown,
    RemoteNotAllowed,
    ServerRefused,
    ServerUnavailable,
)
from kvlab.instruments.faults.resp import Commands

HANG = b""
DEADLINE = 5.0
MOST_TRIES = 60
"""With pauses of 0.02 s there would be 250."""
Says = bytes | Callable[[], bytes]


class Node(socketserver.ThreadingTCPServer):
    """A node that says what it is told to say; ``seen`` counts the commands."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Answering)
        self.port = int(self.server_address[1])
        self.seen: Counter[str] = Counter()
        self.says: dict[str, Says] = {"COMMAND": b"*0\r\n", "INCR": b":1\r\n", "GET": b"$-1\r\n"}
        self.says["HELLO"] = b"%1\r\n$5\r\nproto\r\n:3\r\n"
        self.open: list[socket.socket] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for one in self.open:
            one.close()


class _Answering(socketserver.BaseRequestHandler):
    server: Node

    def handle(self) -> None:
        self.server.open.append(self.request)
        commands = Commands()
        try:
            while data := self.request.recv(65_536):
                for command in commands.feed(data):
                    self.server.seen[command.name] += 1
                    said = self.server.says.get(command.name, b"+OK\r\n")
                    self.request.sendall(said if isinstance(said, bytes) else said())
        except OSError:
            pass  # the test has ended


def slot_map(*ranges: tuple[int, int, Node]) -> bytes:
    """The answer to CLUSTER SLOTS."""
    parts = [
        f"*3\r\n:{first}\r\n:{last}\r\n*2\r\n$9\r\n127.0.0.1\r\n:{node.port}\r\n"
        for first, last, node in ranges
    ]
    return f"*{len(parts)}\r\n{''.join(parts)}".encode()


class Play:
    """Two nodes, each with half of the slots, and a clock that only ``sleep`` moves."""

    def __init__(self, ends: ExitStack) -> None:
        self.ends, self.now = ends, 0.0
        self.a, self.b = self.node(), self.node()
        self.agree((0, 8191, self.a), (8192, 16383, self.b))
        self.on_sleep: Callable[[], None] = lambda: None
        client = ends.enter_context(redis.RedisCluster(**self.address))
        how: dict[str, Any] = {"clock": lambda: self.now, "sleep": self._sleep}
        self.kv = ends.enter_context(Kv(client, prefix="p", deadline=DEADLINE, **how))

    @property
    def address(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.a.port, "protocol": 2}

    def node(self, port: int = 0) -> Node:
        made = Node(port)
        self.ends.callback(made.end)
        return made

    def agree(self, *ranges: tuple[int, int, Node]) -> None:
        for node in (self.a, self.b):
            node.says["CLUSTER"] = slot_map(*ranges)

    def op(self, at: Node, nth: int = 0, command: str = "INCR") -> Op[Any]:
        """An op on a key of that node's half."""
        halves = [f"k{i}" for i in range(100) if (key_slot(b"p:k%d" % i) > 8191) == (at is self.b)]
        return Op(command, Key(halves[nth]))

    def moves(self, source: Node, op: Op[Any], port: int) -> None:
        slot = key_slot(f"p:{op.keys[0].name}".encode())
        source.says["INCR"] = f"-MOVED {slot} 127.0.0.1:{port}\r\n".encode()

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()

    def fails(self, op: Op[Any], kind: type[Exception]) -> str:
        """The words with which the op fails; how long that takes is added to ``now``."""
        with pytest.raises(kind) as failed:
            self.kv.run(op)
        assert type(failed.value) is kind
        return str(failed.value)


@pytest.fixture
def play() -> Iterator[Play]:
    with ExitStack() as ends:
        yield Play(ends)


OF_A_SLOT = ("CLUSTERDOWN Hash slot not served", "TRYAGAIN Multiple keys request")
OF_A_NODE = (
    "CLUSTERDOWN The cluster is down",
    "LOADING Valkey is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down",
    "READONLY You can't write against a read only replica.",
)


@pytest.mark.parametrize("words", OF_A_SLOT + OF_A_NODE)
def test_a_refusal_for_now_is_waited_for_once(play: Play, words: str) -> None:
    play.a.says["INCR"] = f"-{words}\r\n".encode()
    with pytest.raises(BatchFailed) as failed:
        play.kv.run(play.op(play.a), play.op(play.b))
    refused, other = failed.value.results
    assert isinstance(refused, CannotServe)
    assert (refused.code, other) == (words.partition(" ")[0], 1)
    assert DEADLINE - 0.2 < play.now < DEADLINE
    assert 20 < play.a.seen["INCR"] < MOST_TRIES
    assert play.b.seen["INCR"] == 1
    waited, play.now = play.now, play.now + 60  # nobody asked meanwhile
    play.fails(play.op(play.a), CannotServe)
    assert play.now == waited + 60
    play.fails(play.op(play.a, 1), CannotServe)  # another slot
    assert (play.now == waited + 60) == (words in OF_A_NODE)
    play.a.says["INCR"] = b":7\r\n"
    assert play.kv.run([play.op(play.a), play.op(play.a, 1)]) == [7, 7]
    assert not play.kv._router.cluster.refusing  # type: ignore[union-attr]


@pytest.mark.parametrize("words", OF_A_NODE)
def test_another_node_may_serve_what_one_refuses(play: Play, words: str) -> None:
    """The node that refuses still believes in its slots: the other node is asked."""
    play.kv.run(play.op(play.a), play.op(play.b))
    play.a.says["INCR"] = f"-{words}\r\n".encode()
    play.b.says["CLUSTER"] = slot_map((0, 16383, play.b))
    assert play.kv.run(play.op(play.a)) == 1
    assert (play.a.seen["INCR"], play.b.seen["INCR"]) == (2, 2)
    assert play.now < 0.2
    play.now += 60  # the node is back, and refuses again: that is a new refusal
    play.agree((0, 8191, play.a), (8192, 16383, play.b))
    play.moves(play.b, play.op(play.a), play.a.port)
    began = play.now
    play.fails(play.op(play.a), CannotServe)
    assert DEADLINE - 0.2 < play.now - began < DEADLINE


def test_a_slot_that_nobody_serves_is_refused_until_somebody_does(play: Play) -> None:
    play.agree((8192, 16383, play.b))
    play.a.says["INCR"] = play.b.says["INCR"] = b"-CLUSTERDOWN Hash slot not served\r\n"
    assert "not served" in play.fails(play.op(play.a), CannotServe)
    assert play.now < DEADLINE
    assert play.a.seen["INCR"] + play.b.seen["INCR"] < MOST_TRIES
    play.agree((0, 16383, play.b))
    play.b.says["INCR"] = b":1\r\n"
    play.now += 1
    assert play.kv.run(play.op(play.a)) == 1


def test_a_node_that_has_forgotten_the_cluster_is_not_believed(play: Play) -> None:
    play.moves(play.b, play.op(play.b), play.a.port)
    play.a.says["CLUSTER"] = b"*0\r\n"
    before = play.a.seen["CLUSTER"], play.b.seen["CLUSTER"]
    assert play.kv.run(play.op(play.b)) == 1  # by the node that MOVED names
    assert (play.a.seen["CLUSTER"], play.b.seen["CLUSTER"]) == (before[0] + 1, before[1] + 1)
    assert len(play.kv._router.cluster.primaries()) == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("to_itself", [False, True])
def test_a_circle_of_moved_ends(play: Play, to_itself: bool) -> None:
    for node, other in ((play.a, play.b), (play.b, play.a)):
        target = node if to_itself else other
        play.moves(node, play.op(play.a), target.port)
    said = play.fails(play.op(play.a), ServerUnavailable)
    assert said == "sent on 8 times from node to node, and run by none"
    assert play.a.seen["INCR"] + play.b.seen["INCR"] == 9
    assert 0.2 < play.now < 1
    assert play.kv.run(play.op(play.b, command="GET")) is None


def test_a_node_that_moved_names_and_that_is_not_there_is_waited_for(play: Play) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    tries = []
    play.on_sleep = lambda: tries.append(play.now)
    play.moves(play.a, play.op(play.a), port)
    assert str(port) in play.fails(play.op(play.a), ServerUnavailable)
    assert DEADLINE - 0.2 < play.now < DEADLINE
    assert 20 < len(tries) < MOST_TRIES
    play.now += 60
    tries.clear()
    play.fails(play.op(play.a), ServerUnavailable)  # the outage is older than the deadline
    assert not tries
    found = play.node(port)
    assert play.kv.run(play.op(play.a)) == 1
    assert found.seen["INCR"] == 1
    assert play.kv.outage is None


@pytest.mark.parametrize("by", ["MOVED", "CLUSTER SLOTS"])
def test_a_node_elsewhere_that_one_names_fails_its_own_op_alone(play: Play, by: str) -> None:
    url = f"redis+cluster://127.0.0.1:{play.a.port}"
    with connect(url, prefix="p") as kv:
        play.a.says["INCR"] = b"-MOVED 1 192.0.2.1:7000\r\n"
        if by == "CLUSTER SLOTS":
            play.moves(play.a, play.op(play.a), play.b.port)
            play.agree((0, 8191, play.a), (8192, 16383, play.b))
            play.b.says["CLUSTER"] = slot_map((0, 16383, play.b)).replace(
                b"$9\r\n127.0.0.1", b"$9\r\n192.0.2.1"
            )
        with pytest.raises(BatchFailed) as failed:
            kv.run(play.op(play.a), play.op(play.b))
    remote, other = failed.value.results
    assert isinstance(remote, RemoteNotAllowed)
    assert other == 1


def hang_up() -> bytes:
    raise OSError("the node hangs up")


def test_a_node_that_hangs_up_makes_the_next_op_look_for_another(play: Play) -> None:
    play.a.says["INCR"] = hang_up
    play.b.says["CLUSTER"] = slot_map((0, 16383, play.b))
    play.fails(play.op(play.a), OutcomeUnknown)
    assert play.kv.run(play.op(play.a)) == 1
    assert (play.a.seen["INCR"], play.b.seen["INCR"]) == (1, 1)


def test_where_no_node_says_the_slots_moved_is_followed_all_the_same(play: Play) -> None:
    play.a.says["CLUSTER"] = play.b.says["CLUSTER"] = hang_up
    play.moves(play.b, play.op(play.b), play.a.port)
    assert play.kv.run(play.op(play.b)) == 1


def test_a_transaction_of_which_a_part_ran_is_not_sent_again(play: Play) -> None:
    play.a.says |= {"INCR": b"+QUEUED\r\n", "EXEC": b"*2\r\n:1\r\n-READONLY is now\r\n"}
    with pytest.raises(BatchFailed) as failed:
        play.kv.run(play.op(play.a), play.op(play.a), atomic=True)
    ran, refused = failed.value.results
    assert (ran, type(refused)) == (1, CannotServe)
    assert play.a.seen["EXEC"] == 1


@pytest.mark.parametrize(
    "words", ["MOVED", "MOVED 1 nowhere", "ASK one 127.0.0.1:1", "MOVED 16384 127.0.0.1:1"]
)
def test_words_that_are_no_address_are_the_refusal_that_they_are(play: Play, words: str) -> None:
    play.a.says["INCR"] = f"-{words}\r\n".encode()
    assert play.fails(play.op(play.a), ServerRefused) == words

    async def main() -> None:
        client = redis.asyncio.RedisCluster(**play.address)
        async with client, AsyncKv(client, prefix="p") as akv:
            with pytest.raises(ServerRefused, match=words):
                await akv.run(play.op(play.a))

    asyncio.run(main())


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_silent_node_costs_one_timeout_and_another_is_waited_for(
    play: Play, taken_over: bool
) -> None:
    def take_over() -> None:
        if play.now > 0.5 and taken_over:
            play.b.says["CLUSTER"] = slot_map((0, 16383, play.b))

    play.a.says |= dict.fromkeys(("GET", "INCR", "PING"), HANG)
    play.on_sleep = take_over
    how: dict[str, Any] = {"clock": lambda: play.now, "sleep": play._sleep}
    with Kv(play.kv.client, prefix="p", timeout=0.5, deadline=2, **how) as kv:
        read = Op("GET", play.op(play.a).keys[0], idempotent=True)
        both = kv.run([read, play.op(play.a, 1)], return_exceptions=True)
        after = kv.run([read, play.op(play.a, 1)], return_exceptions=True)
    assert isinstance(both[1], OutcomeUnknown)
    if taken_over:
        assert (both[0], after) == (None, [None, 1])
    else:
        assert [*map(type, [both[0], *after])] == [OutcomeUnknown, *[ServerUnavailable] * 2]
    assert play.a.seen["GET"] + play.a.seen["INCR"] == 2
    assert 0.5 < play.now < 2


def test_silent_nodes_are_asked_until_the_deadline_and_no_longer(play: Play) -> None:
    others = [play.node() for _ in range(8)]
    size = 16384 // 8
    play.agree(*((i * size, (i + 1) * size - 1, node) for i, node in enumerate(others)))
    with redis.RedisCluster(**play.address) as client:
        for node in (play.a, play.b, *others):
            node.says = dict.fromkeys(("GET", "CLUSTER", "PING"), HANG)
            node.seen.clear()
        with Kv(client, prefix="p", timeout=0.2, deadline=0.5) as kv:
            for _ in range(2):
                with pytest.raises(Exception, match="no answer"):
                    kv.run(Op("GET", Key("k"), idempotent=True))
    asked = sum(node.seen["CLUSTER"] for node in (play.a, play.b, *others))
    assert 1 <= asked <= 4


def test_what_the_trace_hook_raises_and_a_closed_executor_are_told_on_asyncio(play: Play) -> None:
    class Hooked(Exception):
        pass

    def hook(_: Any) -> None:
        raise Hooked

    async def main() -> None:
        async with redis.asyncio.RedisCluster(**play.address) as client:
            async with AsyncKv(client, prefix="p", trace=hook) as akv:
                with pytest.raises(Hooked):
                    await akv.run(play.op(play.a))
            for node in (play.a, play.b):  # known, and never used before
                with pytest.raises(Closed):
                    await akv.run(play.op(node))

    asyncio.run(main())
    play.kv.run(play.op(play.a))
    play.kv.close()
    for node in (play.a, play.b):
        play.fails(play.op(node), Closed)
