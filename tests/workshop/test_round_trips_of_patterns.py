"""Every public op of the eight patterns costs what the design promises, counted at a proxy."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest
from support import twin

import kvlab
from kvlab import Kv
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server.running_server import RunningServer
from kvlab.workshop import readme, round_trips


@pytest.fixture
def wired(server: RunningServer, kv: Kv):
    with Proxy(server.url) as proxy:
        client = kvlab.connect(proxy.url, prefix=kv.prefix, timeout=10)
        yield proxy, client
        client.close()


def given(what: Any) -> tuple[Any, ...]:
    return what if isinstance(what, tuple) else (what,)


def promised(kv: Kv) -> dict[tuple[str, str], int]:
    return {(c.pattern, c.op): c.promised for c in round_trips.cases(kv, kv.client)}


def test_each_op_takes_the_promised_round_trips(kv: Kv, wired: Any) -> None:
    proxy, far = wired
    counted = {
        (case.pattern, case.op): round_trips.count(
            kv, lambda: proxy.requests, case, round_trips.on(far)
        )
        for case in round_trips.cases(kv, far.client)
    }
    promised = {
        (case.pattern, case.op): case.promised for case in round_trips.cases(kv, far.client)
    }
    assert counted == promised


def test_so_they_do_on_asyncio(kv: Kv, wired: Any) -> None:
    proxy, far = wired
    with asyncio.Runner() as runner:
        akv = twin(far)
        counted = {
            (case.pattern, case.op): round_trips.count(
                kv,
                lambda: proxy.requests,
                case,
                lambda what: runner.run(akv.run(*given(what))),
            )
            for case in round_trips.cases(kv, far.client)
        }
        runner.run(akv.close())
    promised = {
        (case.pattern, case.op): case.promised for case in round_trips.cases(kv, far.client)
    }
    assert counted == promised


HARDENED = (
    kvlab.CacheAside,
    kvlab.WriteThrough,
    kvlab.FixedWindow,
    kvlab.SlidingWindowLog,
    kvlab.SlidingWindowCounter,
    kvlab.TokenBucket,
    kvlab.SessionStore,
    kvlab.Lock,
    kvlab.Leaderboard,
    kvlab.FeatureFlags,
)


@pytest.mark.parametrize("pattern", HARDENED, ids=lambda pattern: pattern.__name__)
def test_no_public_op_is_forgotten(kv: Kv, pattern: type[Any]) -> None:
    source = inspect.getsource(round_trips)
    ops = {
        name
        for name, method in inspect.getmembers(pattern, callable)
        if not name.startswith("_")
        and str(inspect.signature(method).return_annotation).startswith(("Op[", "Flow[", "Steps["))
        and name != "fetching"  # the steps of fetch, for other patterns
    }
    assert ops
    missing = {name for name in ops if f".{name}(" not in source and f".{name}," not in source}
    assert not missing


def test_the_readme_has_this_count() -> None:
    text = (readme.ROOT / "README.md").read_text(encoding="utf-8")
    with_count = readme.replaced(text, "round trips", readme.round_trips_table())
    assert with_count == text, "run: make notebooks"
