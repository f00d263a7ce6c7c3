"""Servers, executors and clocks for every test.

``kv``: the embedded Valkey alone. ``run``: on every engine, and by every way an op can travel.
``stepped``: a Valkey whose clock the test sets.
"""

from __future__ import annotations

import functools
import gc
import itertools
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest
import redis
import redis.utils
from hypothesis import Phase, settings
from support import (
    ENGINES,
    TRAVELS,
    WAYS,
    SteppedClock,
    absent,
    faketime_library,
    fresh_prefix,
    on_cluster,
)

import kvlab.server
from kvlab import Kv
from kvlab.core.server_url import REST_NAMES
from kvlab.rest import RestAddress
from kvlab.rest.clients import rest_client
from kvlab.rest_gateway import ServedGateway, serving
from kvlab.server import engines
from kvlab.server.running_cluster import RunningCluster
from kvlab.server.running_server import RunningServer

# For mutants: that a model test fails is enough, and shrinking the failure takes minutes.
settings.register_profile(
    "unshrunk", settings.get_profile("ci"), phases=(Phase.explicit, Phase.generate)
)
LONG = (
    ("tests/workshop/test_notebooks.py",),
    ("tests/load", "tests/sample_app"),
    ("tests/workshop/test_exercises.py", "tests/workshop/test_lab.py", "tests/test_cli.py"),
)
"""What begins first, on a worker each."""
PATTERNS = {"cache_aside", "write_through", "rate_limiting", "sessions"}
PATTERNS |= {"distributed_lock", "leaderboard", "pipeline", "feature_flags"}
# redis-py reads its version from the files of the package for each connection: 2 ms of CPU.
redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)
gc.disable()  # collecting makes a million objects that stay: half a second of each worker
TIME_FUNCTIONS = (time.time, time.time_ns, time.monotonic, time.sleep)


@pytest.fixture(scope="session", autouse=True)
def _embedded_server_of_the_tests() -> Iterator[None]:
    """An embedded server that no open notebook shares, and no server of the developer's."""
    with tempfile.TemporaryDirectory(prefix="kv-") as directory, pytest.MonkeyPatch.context() as to:
        to.setenv("KVLAB_RUNTIME_DIR", directory)
        for name in ("KVLAB_PREFIX", *itertools.chain(*REST_NAMES)):
            to.delenv(name, raising=False)
        yield
        kvlab.server.leave()


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[[str], RunningServer]]:
    """One server per engine and session, started when first asked for."""
    started: dict[str, RunningServer] = {}
    with ExitStack() as ends:

        def get(name: str) -> RunningServer:
            if name not in started:
                engine = engines.find(name)
                if engine.missing:
                    pytest.skip(f"engine {name} is absent: {engine.missing}")
                started[name] = ends.enter_context(engines.start(name))
            return started[name]

        yield get


@pytest.fixture
def server(running: Callable[[str], RunningServer]) -> RunningServer:
    """The embedded engine, a private server of this session."""
    return running("valkey")


@pytest.fixture(scope="session")
def gateway(running: Callable[[str], RunningServer]) -> Iterator[ServedGateway]:
    """The REST gateway over the embedded engine: one process for the session."""
    with serving(running("valkey").url) as served:
        yield served


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCluster]:
    """A cluster for the session: three primaries and their replicas."""
    engine = engines.find("valkey")
    if engine.missing:
        pytest.skip(f"engine cluster is absent: {engine.missing}")
    running = RunningCluster(engine, tmp_path_factory.mktemp("cluster"))
    yield running
    running.kill()


@pytest.fixture(scope="session")
def cluster_client(cluster: RunningCluster) -> Iterator[redis.RedisCluster]:
    """One for the session: a new one asks each node what it is, for 15 ms of CPU."""
    with cluster.client() as client:
        yield client


@pytest.fixture
def client_of(request: pytest.FixtureRequest) -> Callable[[str], redis.Redis]:
    """A new client of the engine; of "rest": one that speaks HTTP to the gateway; of "cluster":
    redis-py's ``RedisCluster``, the same one for all."""

    def make(name: str) -> redis.Redis:
        if name == "cluster":
            return request.getfixturevalue("cluster_client")  # type: ignore[no-any-return]
        if name != "rest":
            running = request.getfixturevalue("running")
            return running(name).client(max_connections=500)  # type: ignore[no-any-return]
        gateway = request.getfixturevalue("gateway")
        return rest_client(RestAddress(gateway.url, gateway.token), 500)

    return make


@pytest.fixture
def kv(client_of: Callable[[str], redis.Redis]) -> Iterator[Kv]:
    """An executor on the embedded engine, in a namespace of the test's own."""
    yield from _executor(client_of("valkey"))


@pytest.fixture
def any_kv(request: pytest.FixtureRequest, client_of: Callable[[str], redis.Redis]) -> Iterator[Kv]:
    """An executor on each engine in turn; an absent engine is skipped with its reason."""
    yield from _executor(client_of(request.param))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The engines of ``any_kv``: a pattern keeps its promises over REST and on a cluster too.

    ``pytest tests/workshop/test_exercises.py --times 20`` shows whether a test fails now and then.
    """
    if (times := metafunc.config.getoption("times")) > 1:
        metafunc.fixturenames.append("time_of_many")
        metafunc.parametrize("time_of_many", range(times))
    if "any_kv" in metafunc.fixturenames:
        more = ["rest", "cluster"] if metafunc.definition.path.parent.name in PATTERNS else []
        metafunc.parametrize("any_kv", [*ENGINES, *more], indirect=True)


def _executor(client: redis.Redis) -> Iterator[Kv]:
    with Kv(client, prefix=fresh_prefix()) as kv:
        yield kv
        kv.clear()
    if not on_cluster(kv):  # that one is the session's
        client.close()


@pytest.fixture(params=TRAVELS, ids="-".join)
def run(
    request: pytest.FixtureRequest, client_of: Callable[[str], redis.Redis]
) -> Iterator[Callable[[Any], Any]]:
    """``run(op)``: by ``Kv``, by ``AsyncKv``, and amid others in one batch; flows travel alone.

    ``run.kv`` is the executor whose namespace it is.
    """
    way, engine = request.param
    for kv in _executor(client_of(engine)):
        travel = WAYS[way](kv)
        yield travel
        travel.close()


@pytest.fixture(scope="session")
def _stepped_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningServer, SteppedClock]]:
    if sys.platform != "linux":
        pytest.skip("libfaketime sets the clock of a server on Linux only")
    library = faketime_library()
    if library is None:
        absent("libfaketime is absent: on Debian, apt-get install libfaketime")
    file = tmp_path_factory.mktemp("clock") / "now"
    clock = SteppedClock(file)
    env = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": "UTC",
    }
    with engines.start("valkey", env=env) as server, server.client() as client:
        clock.attach(client)
        yield server, clock


@pytest.fixture
def stepped(
    _stepped_server: tuple[RunningServer, SteppedClock],
) -> Iterator[tuple[Kv, SteppedClock]]:
    """An executor on a Valkey whose clock stands still, and that clock."""
    server, clock = _stepped_server
    clock.set(clock.START)
    for kv in _executor(server.client(max_connections=500)):
        yield kv, clock


@pytest.fixture
def url(server: RunningServer) -> str:
    """The server, empty."""
    with server.client() as client:
        client.flushall()
    return server.url


@pytest.fixture
def direct(url: str) -> Iterator[redis.Redis]:
    """A client that goes straight to the server."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        yield client


@pytest.fixture
def leaves_nothing_behind(server: RunningServer) -> Iterator[None]:
    this = psutil.Process()
    threads = set(threading.enumerate())
    children, descriptors = set(this.children(recursive=True)), this.num_fds()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    policy = os.sched_getscheduler(0) if hasattr(os, "sched_getscheduler") else None
    yield
    assert (time.time, time.time_ns, time.monotonic, time.sleep) == TIME_FUNCTIONS
    left = {thread for thread in threading.enumerate() if thread.name.startswith("client ")}
    assert left <= threads
    assert set(this.children(recursive=True)) <= children
    assert this.num_fds() <= descriptors
    if cores is not None:
        assert os.sched_getaffinity(0) == cores
        assert os.sched_getscheduler(0) == policy


def pytest_configure() -> None:
    """A background job of a shell ignores SIGINT, and so would every process of the tests."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--times", type=int, default=1, help="run each chosen test so many times")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each worker begins with long tests of its own, which share their servers and processes.

    With ``--dist worksteal`` each worker gets a block of the list, and one that is done takes from
    the end of another's block.
    """
    for item in items:
        assert " at 0x" not in item.nodeid, f"workers would not agree on the name {item.nodeid}"
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    blocks: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for number, names in enumerate(LONG):
        blocks[number % workers] += [item for item in items if item.nodeid.startswith(names)]
    begun = {item for block in blocks for item in block}
    rest = [item for item in items if item not in begun]
    for number, block in enumerate(blocks, start=1):
        room = max(0, len(items) * number // workers - len(items) * (number - 1) // workers)
        taken = len(rest) if number == workers else max(0, room - len(block))
        block += rest[:taken]
        del rest[:taken]
    items[:] = [item for block in blocks for item in block]


def pytest_collection_finish() -> None:
    """What collecting made stays: ``gc.collect()`` of a test looks at it in vain, for 0.25 s."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_report_header() -> list[str]:
    """What of the matrix is here, and what is not: said, never hidden."""
    lines = []
    for name, engine in engines.engines().items():
        lines.append(f"engine {name}: {engine.missing or engine.version}")
    library = faketime_library()
    lines.append(f"libfaketime: {'present' if library else 'absent, clock tests are skipped'}")
    lines.append(f"CPU cores: {os.cpu_count()}")
    return lines
