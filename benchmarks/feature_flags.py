"""What a flag check costs, and how soon a change reaches 100 watchers.

    python -m benchmarks.feature_flags [--url redis://...]

Checks: one client in a closed loop; the two sides take turns. kvlab reads a snapshot in local
memory, and the seed reads over the network: the ratio is the price of a round trip, not of code.
Spread: seconds from the call of ``set`` until ``set`` has returned and every watcher has the new
version. A watcher is a thread with a connection of its own; all watchers are in this process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from functools import partial

from benchmarks._common import mean_seconds, opened, report
from kvlab import FeatureFlags, Flag, FlagWatcher, Kv, NaiveFlags
from kvlab.core.server_url import redis_url
from kvlab.instruments.measure.comparison import compare

CHECKS = 1_000
WATCHERS = 100
CHANGES = 50
FLAGS = FeatureFlags()


def checks(kv: Kv) -> None:
    """Print how kvlab's check compares with the check of the seed."""
    naive = NaiveFlags(kv.client, prefix=kv.prefix)
    naive.set_flag("on", True)
    kv.run(FLAGS.set_many({"on": True, "some": Flag(30)}))
    with FlagWatcher(kv, FLAGS) as watcher:
        assert watcher.wait_for(1)
        for what, check in (
            ("on or off", lambda: watcher.snapshot.is_enabled("on")),
            ("30 % of the users", lambda: watcher.snapshot.is_enabled("some", "user-1234")),
        ):
            seed = partial(mean_seconds, lambda: naive.get_flag("on"), CHECKS)
            ours = partial(mean_seconds, check, CHECKS)
            report(f"{what} / the seed's HGET", compare(ours, seed), "memory against network")


def spread(kv: Kv, watchers: int = WATCHERS, changes: int = CHANGES) -> list[float]:
    """Seconds of each change until the last of the watchers has it."""
    took = []
    with ExitStack() as stack:
        following = [stack.enter_context(FlagWatcher(kv, FLAGS)) for _ in range(watchers)]
        for watcher in following:
            assert watcher.wait_until(lambda w: w.stale_since is None, 30)
        for n in range(changes):
            began = time.perf_counter()
            version = kv.run(FLAGS.set("spread", Flag(n)))
            for watcher in following:
                assert watcher.wait_for(version)
            took.append(time.perf_counter() - began)
    return took


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", type=redis_url)
    with opened(parser.parse_args().url) as kv:
        checks(kv)
        for watchers in (1, WATCHERS):
            took = sorted(s * 1e3 for s in spread(kv, watchers))
            print(
                f"a change reaches {watchers} watcher{'s' if watchers > 1 else ''} in "
                f"{statistics.median(took):.1f} ms (median of {len(took)}; "
                f"{took[0]:.1f} to {took[-1]:.1f})"
            )
        kv.clear()


if __name__ == "__main__":
    main()
