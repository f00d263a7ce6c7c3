"""The record of a search: a probe a rate, what was found, and the folder that keeps it.

The folder: search.json (everything), probes.csv (a row a rate), report.html.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from kvlab.errors import InvalidArgument
from kvlab.load.find_rate.search import Limit, limit
from kvlab.load.find_rate.slo import Slo
from kvlab.load.record.files import as_json, empty_folder, reading, without_address
from kvlab.load.record.parts import LATE
from kvlab.load.record.run import LoadRun

FORMAT = "kvlab-rate-search-1"
NEVER_SENT = 0.01
"""A rate does not hold when more than this share of its arrivals was never sent."""
KNEE = 2.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One rate, loaded for some seconds. Rates a second, latencies in seconds; NaN without a call.

    ``why``: why the rate does not hold, empty if it does. ``oracle``: the verdict on the pattern's
    promises. ``late``: p99 of how late the generator's own timers were. ``busiest``: the share of a
    core that the generator used in its busiest interval.
    """

    rate: float
    seconds: float
    calls: int
    p50: float
    p99: float
    p999: float
    oracle: str
    why: str
    late: float
    busiest: float
    overloaded: bool
    bare_per_second: float | None

    @property
    def holds(self) -> bool:
        """Whether the SLO and the oracle hold."""
        return not self.why


def probe_of(run: LoadRun, rate: float, slos: tuple[Slo, ...]) -> Probe:
    """What a run at ``rate`` came to."""
    latency, generator = run.latency_all, run.generator
    why = [
        *(finding.says for finding in run.findings if not finding.holds),
        *filter(None, (slo.broken_by(latency) for slo in slos if run.calls)),
        *_unsent(run),
    ]
    if not run.calls:
        why.append(run.untested or "nothing was called")
    p50, p99, p999 = (latency.percentile(p) for p in (50, 99, 99.9))
    late = run.stages[LATE].percentile(99) if LATE in run.stages else 0.0
    busiest = generator.busiest if generator else 0.0
    overloaded = bool(generator and generator.is_overloaded)
    bare = generator.bare_per_second if generator else None
    return Probe(
        rate, run.seconds, run.calls, p50, p99, p999, run.verdict, "; ".join(why), late, busiest,
        overloaded, bare,
    )  # fmt: skip


def _unsent(run: LoadRun) -> Iterator[str]:
    due = float(run.timeline["due"].sum())
    if due and (due - run.calls) / due > NEVER_SENT:
        share = (due - run.calls) / due
        yield f"{share:.0%} of the arrivals were never sent".replace("%", " %")


@dataclass(frozen=True)
class RateSearch:
    """One search. ``most``: calls a second of the closed loop before the search.

    ``settings`` and ``machine`` are JSON data without addresses.
    """

    pattern: str
    title: str
    slos: tuple[Slo, ...]
    began: float
    seconds: float
    most: float
    probes: tuple[Probe, ...]
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]

    @cached_property
    def found(self) -> Limit | None:
        """The highest rate that holds, with its spread; None when no rate holds."""
        return limit(self.probes)

    @property
    def bare_per_second(self) -> float | None:
        """Calls a second of a bare loop in one process: the fastest after any probe."""
        known = [one.bare_per_second for one in self.probes if one.bare_per_second is not None]
        return max(known, default=None)

    @property
    def by_generator(self) -> bool:
        """Whether the generator was overloaded in most of the probes that did not hold.

        A probe in which the pattern broke a promise says something of the pattern all the same.
        """
        failed = [one for one in self.probes if not one.holds]
        late = [one for one in failed if one.overloaded and one.oracle != "BROKEN"]
        return bool(failed) and len(late) * 2 > len(failed)

    @property
    def verdict(self) -> str:
        """FOUND; NO RATE HOLDS; or SHOWS NOTHING: no rate holds, and the store is not to blame."""
        if self.found is not None:
            return "FOUND"
        return "SHOWS NOTHING" if self.by_generator or not self._calls else "NO RATE HOLDS"

    @property
    def _calls(self) -> int:
        return sum(one.calls for one in self.probes)

    @property
    def knee(self) -> float | None:
        """The lowest rate from which on every p99 is at least ``KNEE`` times the best p99."""
        answered = [one for one in self.probes if not math.isnan(one.p99)]
        if not answered:
            return None
        best = KNEE * min(one.p99 for one in answered)
        below = max((one.rate for one in answered if one.p99 < best), default=0.0)
        return min((one.rate for one in answered if one.rate > below), default=None)

    def frame(self) -> pd.DataFrame:
        """A row a probe, in the order of the search."""
        rows = [asdict(one) | {"holds": one.holds} for one in self.probes]
        return pd.DataFrame(rows)

    def says(self) -> str:
        """The result in one sentence."""
        slo = ", ".join(map(str, self.slos))
        if self.found is None:
            least = min(self.probes, key=lambda one: one.rate)
            says = "no rate holds" if self.verdict == "NO RATE HOLDS" else "this shows nothing of"
            return f"{says} {slo}: at {least.rate:,.0f}/s, the lowest tried, {least.why}"
        found = self.found
        spread = f"from {found.low:,.0f} to {found.high:,.0f}/s in this search"
        if found.cut:
            spread += f", which was cut after {len(self.probes)} rates: the limit may lie elsewhere"
        return f"{found.rate:,.0f}/s hold {slo} ({spread})"

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write the folder, which must be new or empty, and return its path."""
        target = empty_folder(folder)
        probes = [
            {name: None if value != value else value for name, value in asdict(one).items()}
            for one in self.probes
        ]  # JSON has no NaN
        kept = {"format": FORMAT} | asdict(self) | {"probes": probes}
        facts = without_address(as_json("search", kept))
        texts = {
            "probes.csv": self.frame().to_csv(index=False),
            "search.json": json.dumps(facts, indent=1) + "\n",
        }
        for name, text in texts.items():
            (target / name).write_text(text, encoding="utf-8")
        return target

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> RateSearch:
        """Read what ``save`` wrote. Raises ``InvalidArgument`` for anything else."""
        with reading(Path(folder) / "search.json") as raw:
            facts = json.loads(raw)
            if facts.pop("format", None) != FORMAT:
                raise InvalidArgument(f"its format is not {FORMAT}")
            facts["slos"] = tuple(Slo(**slo) for slo in facts["slos"])
            unknown = {"p50": math.nan, "p99": math.nan, "p999": math.nan}
            facts["probes"] = tuple(
                Probe(**probe | {name: nan for name, nan in unknown.items() if probe[name] is None})
                for probe in facts["probes"]
            )
            return cls(**facts)
