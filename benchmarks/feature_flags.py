"""What a flag check costs, and how soon a change reaches 100 watchers.

kvlab checks in a snapshot in local memory, and the seed reads over the network: the ratio is the
price of a round trip, not of code.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from kvlab import FeatureFlags, Flag, FlagWatcher, NaiveFlags
from kvlab.bench import Bench, Case, Measure, Peer

CHECKS, SOME_CHECKS = 300, 5
WATCHERS, CHANGES = 100, 5
FLAGS = FeatureFlags()
_percents = itertools.cycle(range(1, 100))


def cases(bench: Bench) -> Iterator[Case]:
    """Two kinds of checks, and the spread of a change."""
    kv = bench.kv
    naive = NaiveFlags(kv.client, prefix=kv.prefix)
    naive.set_flag("on", True)
    kv.run(FLAGS.set_many({"on": True, "some": Flag(30)}))
    watcher = bench.stack.enter_context(FlagWatcher(kv, FLAGS))
    assert watcher.wait_for(1)
    checks: dict[str, Callable[[], object]] = {
        "on or off": lambda: watcher.snapshot.is_enabled("on"),
        "30 % of the users": lambda: watcher.snapshot.is_enabled("some", "user-1234"),
    }
    for name, check in checks.items():
        seed = bench.loop(lambda: naive.get_flag("on"), SOME_CHECKS)
        peers = {"the seed's HGET": Peer(seed, "", "reads over the network at every check")}
        what = "a check in memory, against a check over the network"
        yield Case(name, what, bench.loop(check, CHECKS), peers)
    yield Case(
        "a change reaches its watchers",
        f"from the call of set until {WATCHERS} watchers, a thread and a connection each, have it",
        spread(bench, WATCHERS),
        {"one watcher": Peer(spread(bench, 1))},
        subject=f"a change to {WATCHERS} watchers",
        long=True,
    )


def spread(bench: Bench, watchers: int) -> Measure:
    """Seconds of each change until the last of the watchers has a change."""

    def measure() -> list[float]:
        took = []
        with ExitStack() as stack:
            following = [stack.enter_context(FlagWatcher(bench.kv, FLAGS)) for _ in range(watchers)]
            for watcher in following:
                assert watcher.wait_until(lambda w: w.stale_since is None, 30)
            for _ in range(CHANGES):
                began = time.perf_counter()
                version = bench.kv.run(FLAGS.set("spread", Flag(next(_percents))))
                for watcher in following:
                    assert watcher.wait_for(version)
                took.append(time.perf_counter() - began)
        return took

    return measure
