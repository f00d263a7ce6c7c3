"""The round trips of a page that checks flags, naive and with a watcher, counted by a proxy."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

import kvlab
from kvlab import FeatureFlags, FlagWatcher, NaiveFlags
from kvlab.instruments.faults.proxy import Proxy


def count_round_trips(
    url: str, prefix: str, flags: FeatureFlags, flag: str, *, checks: Sequence[int]
) -> pd.DataFrame:
    """A row for each number of checks of ``flag``: the round trips of both variants."""
    trips: dict[str, tuple[int, int]] = {}
    with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=prefix) as kv:
        naive = NaiveFlags(kv.client, prefix=prefix)
        naive.get_flag(flag)  # connects
        with FlagWatcher(kv, flags) as watcher:
            watcher.wait_until(lambda one: one.stale_since is None)
            for number in checks:
                proxy.reset()
                for _ in range(number):
                    naive.get_flag(flag)
                asked = proxy.requests
                for _ in range(number):
                    watcher.snapshot.is_enabled(flag)
                trips[f"{number} check" + "s" * (number > 1)] = (asked, proxy.requests - asked)
    table = pd.DataFrame.from_dict(trips, orient="index", columns=["naive", "hardened"])
    return table.rename_axis("round trips")
