"""Are empty values and absent rows cached? Ten reads of each value, and the loads they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

READS = 10

Load = Callable[[], Any]
Fetch = Callable[[str, Load], Any]


def loads_of_ten_reads(variants: Mapping[str, Fetch], values: Sequence[Any]) -> pd.DataFrame:
    """A row for each value, a column for each variant's ``fetch(key, load)``: the loads."""
    return pd.DataFrame(
        [
            {f"loads for {READS} reads of": repr(value)}
            | {variant: _loads(fetch, value) for variant, fetch in variants.items()}
            for value in values
        ]
    )


def _loads(fetch: Fetch, value: Any) -> int:
    loads = 0

    def load() -> Any:
        nonlocal loads
        loads += 1
        return value

    for _ in range(READS):
        fetch(f"value {value!r}", load)
    return loads
