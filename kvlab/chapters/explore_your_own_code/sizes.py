"""How many runs an exploration takes: two clients of n commands, every order or reduced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from kvlab.instruments import charts, explore

EVERY, REDUCED = "every order", "reduce=True"


def runs_by_size(sizes: Sequence[int]) -> pd.DataFrame:
    """The runs for two clients of n commands each, for every n, beside the number in theory.

    All commands but the last one of a client use a key of the client's own. So only the order of
    the two last commands can make a difference.
    """
    rows = []
    for commands in sizes:
        clients = [_client("ann", commands), _client("bob", commands)]
        every = explore(clients, progress=False).schedules
        reduced = explore(clients, reduce=True, progress=False).schedules
        rows.append((commands, EVERY, every, comb(2 * commands, commands)))
        rows.append((commands, REDUCED, reduced, 2))
    return pd.DataFrame(rows, columns=["commands", "how", "runs", "theory"])


def _client(name: str, commands: int) -> Callable[[Any], None]:
    def client(kv: Any) -> None:
        for _ in range(commands - 1):
            kv.incr(f"own:{name}")
        kv.incr("shared")

    return client


def runs_chart(frame: pd.DataFrame, *, title: str) -> Figure:
    """Runs over the number of commands, on a log axis, with the theory over them."""
    figure = charts.lines(
        frame,
        x="commands",
        y="runs",
        by="how",
        theory="theory",
        logy=True,
        title=title,
        xlabel="commands of each client, the last one on a key that both use",
        ylabel="runs (log scale)",
        remark="lines: runs made    dashes: (2n)! / (n! n!), and the 2 orders of the last commands",
    )
    figure.axes[0].set_xticks(frame["commands"].unique())
    return figure
