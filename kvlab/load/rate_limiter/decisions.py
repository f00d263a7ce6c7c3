"""The decisions of a rate limiter that a load run notes for the judge, key by key.

Admissions and denials have a time of the server's clock and the span of their call by the caller's
clock (Unix seconds). A hit whose answer never came has the span alone, and so has an answer of a
limiter that does not say when it decided. A decision takes 24 bytes, so that millions fit. Every
hit has cost 1.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kvlab.load.rate_limiter.settings import Bounds
from kvlab.load.record.parts import WINDOWS

Times = npt.NDArray[np.float64]

_KINDS = {"admitted": 3, "denied": 3, "unknown": 2, "untimed": 2, "untimed_denied": 2}
"""What is noted, and how many numbers one of them has."""


class Decisions:
    """Decisions of one process, or of several after :meth:`add`."""

    def __init__(self) -> None:
        self._by_kind: dict[str, dict[str, array[float]]] = {
            kind: defaultdict(lambda: array("d")) for kind in _KINDS
        }

    def decided(self, key: str, at: float, began: float, ended: float, *, allowed: bool) -> None:
        """Note an answer with its server time, and when its call began and ended."""
        self._by_kind["admitted" if allowed else "denied"][key].extend((at, began, ended))

    def unknown(self, key: str, began: float, ended: float) -> None:
        """Note a hit that was admitted at some moment of this span, or not at all."""
        self._by_kind["unknown"][key].extend((began, ended))

    def decided_within(self, key: str, began: float, ended: float, *, allowed: bool) -> None:
        """Note an answer of a limiter that does not say when it decided."""
        self._by_kind["untimed" if allowed else "untimed_denied"][key].extend((began, ended))

    @property
    def keys(self) -> list[str]:
        """The keys with an answer that has a time."""
        return sorted({*self._by_kind["admitted"], *self._by_kind["denied"]})

    @property
    def untimed_keys(self) -> list[str]:
        return sorted(self._by_kind["untimed"])

    @property
    def denied(self) -> int:
        """The number of denials, with a time or without."""
        return sum(
            len(noted) // _KINDS[kind]
            for kind in ("denied", "untimed_denied")
            for noted in self._by_kind[kind].values()
        )

    def admissions(self, key: str) -> Times:
        return self._rows("admitted", key)[:, 0]

    def denials(self, key: str) -> Times:
        return self._rows("denied", key)[:, 0]

    def timed(self, key: str) -> Times:
        """Every answer with a server time: that time, begin and end of its call. Shape (n, 3)."""
        return np.concatenate([self._rows("admitted", key), self._rows("denied", key)])

    def unknown_spans(self, key: str) -> Times:
        """Shape (n, 2)."""
        return self._rows("unknown", key)

    def untimed_spans(self, key: str) -> Times:
        """The admissions of a limiter that does not say when it decided. Shape (n, 2)."""
        return self._rows("untimed", key)

    def _rows(self, kind: str, key: str) -> Times:
        noted = self._by_kind[kind].get(key, ())
        return np.array(noted, np.float64).reshape(-1, _KINDS[kind])

    def windows(self, began: float, window: float, bounds: Bounds, untimed: Bounds) -> pd.DataFrame:
        """Admissions by key and window of the clock, with the columns of ``WINDOWS``.

        ``second`` counts from ``began``. ``untimed``: the bounds of the limiter that does not say
        when it decided; its admissions count at the end of their calls.
        """
        rows = []
        moments = [(key, self.admissions(key), bounds) for key in self.keys]
        moments += [(key, self.untimed_spans(key)[:, 1], untimed) for key in self.untimed_keys]
        for key, times, most in moments:
            micros = np.sort(np.round(times * 1e6).astype(np.int64))
            width = round(window * 1e6)
            numbers, first, counts = np.unique(
                micros // width, return_index=True, return_counts=True
            )
            inside = np.arange(1, len(micros) + 1)
            inside -= np.searchsorted(micros, micros - width, "right")
            busiest = np.maximum.reduceat(inside, first) if len(inside) else inside
            rows += [
                (key, number * width / 1e6 - began, count, most.window, busy, most.interval)
                for number, count, busy in zip(
                    numbers.tolist(), counts.tolist(), busiest.tolist(), strict=True
                )
            ]
        return pd.DataFrame(rows, columns=list(WINDOWS))

    def to_dict(self) -> dict[str, Any]:
        """For another process on a machine with the same order of bytes."""
        return {
            kind: {key: times.tobytes() for key, times in by_key.items()}
            for kind, by_key in self._by_kind.items()
        }

    def add(self, data: Mapping[str, Any]) -> None:
        """Add what another process noted."""
        for kind, by_key in data.items():
            for key, times in by_key.items():
                self._by_kind[kind][key].frombytes(times)
