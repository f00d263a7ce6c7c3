"""One kind of fault at a time: which faults does an invariant survive, and which ones not?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from kvlab.instruments import Faults, explore

KINDS = {
    "none": Faults(),
    "a request is lost": Faults(lost_requests=True),
    "a reply is lost": Faults(lost_replies=True),
    "the server forgets its scripts": Faults(script_flushes=True),
    "a client crashes": Faults(crashes=True),
    "a key ends early": Faults(expiries=True),
}

Clients = Sequence[Callable[[Any], Any]] | Mapping[str, Callable[[Any], Any]]


def explore_fault_by_fault(clients: Clients, **question: Any) -> pd.DataFrame:
    """A row for each kind of fault: the schedules that were run, and how many of them broke.

    At most one fault happens in a run. ``question`` holds the invariant and the other arguments
    of :func:`~kvlab.instruments.explore`.
    """
    rows = []
    for kind, faults in KINDS.items():
        story = explore(clients, faults=faults, reduce=True, progress=False, **question)
        rows.append((kind, story.schedules, story.violations))
    return pd.DataFrame(rows, columns=["fault, at most one in a run", "schedules", "broken"])
