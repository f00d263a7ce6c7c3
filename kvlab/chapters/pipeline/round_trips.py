"""The round trips and the commands of a dashboard of four reads, counted by a proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

import kvlab
from kvlab import NaivePipeline
from kvlab.instruments.faults.proxy import Proxy
from kvlab.pipeline import dashboard


def count_round_trips(url: str, prefix: str) -> pd.DataFrame:
    """Three ways to read the dashboard of user 7: round trips and commands of each."""
    with Proxy(url) as proxy, kvlab.connect(proxy.url, prefix=prefix) as kv:
        naive = NaivePipeline(kv.client, prefix=prefix)
        reads: Mapping[str, Callable[[], object]] = {
            "four runs": lambda: [kv.run(op) for op in dashboard(7)],
            "tutorial": lambda: naive.dashboard(7),
            "one run": lambda: kv.run(*dashboard(7)),
        }
        counts = {name: proxy.trips(read) for name, read in reads.items()}
    names = ["round trips", "commands"]
    return pd.DataFrame.from_dict(counts, orient="index", columns=names).rename_axis("dashboard")
