"""The record of one load run, and the folder that keeps it.

Guarantee: ``LoadRun.read(folder)`` gives back what ``save(folder)`` was given, every number to the
last bit. A folder appears whole or not at all: it is written beside its place, then renamed. A
file that is missing, cut short or changed since is refused by name.

The folder:

    run.json       everything but the tables and histograms; the SHA-256 of the files read back
    timeline.csv   a row per interval, columns as ``TIMELINE``
    windows.csv    rate limiter: a row per key and window, columns as ``WINDOWS``
    latency.json   a Recorder by name of call, nanoseconds
    latency.csv    count, mean, percentiles and maximum by name of call, µs: for a spreadsheet
    report.html    the page for people

Addresses in settings and error messages keep their scheme and path and lose the rest, user and
password included. Not promised: that the folder survives a loss of power; that host names are
found in other texts.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from kvlab.core.checks import real, whole
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.recorder import PERCENTILES, Recorder
from kvlab.load.record.files import (
    FORMAT,
    as_json,
    dumps,
    encoded,
    parse,
    reading,
    same_format,
    sha,
    table,
    without_address,
)

__all__ = ["FAULTS", "TIMELINE", "WINDOWS", "Fault", "Finding", "Generator", "LoadRun"]

FAULTS = ("pause", "cut", "flush", "restart")
# ``second``: where the interval starts. ``due``: arrivals asked for in it, nan in a closed loop.
TIMELINE = {
    "second": "float64",
    "users": "int64",
    "calls": "int64",
    "errors": "int64",
    "due": "float64",
    "p50_us": "float64",
    "p99_us": "float64",
    "p999_us": "float64",
    "max_us": "float64",
}
# ``second``: where the window starts. ``bound``: what is allowed in it, nan where none is said.
# ``busiest``: the most admitted in any interval of a window's length that ends in this one.
WINDOWS = {
    "key": "str",
    "second": "float64",
    "admitted": "int64",
    "bound": "float64",
    "busiest": "int64",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What was done to the server: one of ``FAULTS``, ``at`` seconds into the run."""

    kind: str
    at: float
    seconds: float

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise InvalidArgument(f"kind must be one of {', '.join(FAULTS)}, not {self.kind!r}")
        real("at", self.at, 0)
        real("seconds", self.seconds, 0)


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether one invariant held; ``says`` reads after "HOLDS: " and after "BROKEN: " alike."""

    name: str
    holds: bool
    says: str
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Generator:
    """What the load generator itself can do, in one process on average.

    ``noop_per_second``: calls that do nothing. ``cpu_share``: the share of a core that a process
    used in this run. ``warning``: why latencies or percentiles mislead.
    """

    processes: int
    noop_per_second: float
    cpu_share: float
    warning: str | None = None

    def __post_init__(self) -> None:
        whole("processes", self.processes, 1)
        real("noop_per_second", self.noop_per_second, 0)
        real("cpu_share", self.cpu_share, 0)


@dataclass(frozen=True, slots=True, eq=False)
class LoadRun:
    """One run. ``began``: Unix seconds. ``latency``: by name of call, from the intended start.

    Failed calls are calls too, with the time they took. ``untested`` says why the run shows
    nothing; a run without a finding must say why. ``settings`` and ``machine`` are what JSON
    carries. Of the settings, ``rate`` (calls a second) makes it an open loop, and ``users`` and
    ``target`` are shown. Raises ``InvalidArgument`` for anything that could not be read back.
    """

    pattern: str
    title: str
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    began: float
    seconds: float
    timeline: pd.DataFrame
    latency: Mapping[str, Recorder]
    errors: Mapping[str, int] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()
    findings: tuple[Finding, ...] = ()
    untested: str | None = None
    generator: Generator | None = None
    windows: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        real("began", self.began, 0)
        real("seconds", self.seconds, 0, above=True)
        if not self.findings and not self.untested:
            raise InvalidArgument("a run needs a finding, or untested must say why it has none")
        errors: dict[str, int] = {}
        for message, count in self.errors.items():
            text = without_address(message)
            errors[text] = errors.get(text, 0) + whole(f"errors of {text!r:.80}", count, 1)
        if self.open_loop:
            real("settings' rate", self.settings["rate"], 0, above=True)
        canonical = {
            "settings": without_address(as_json("settings", self.settings)),
            "machine": as_json("machine", self.machine),
            "timeline": table("timeline", self.timeline, TIMELINE),
            "latency": dict(self.latency),
            "errors": errors,
            "faults": tuple(sorted(self.faults, key=lambda fault: fault.at)),
            "findings": tuple(self.findings),
        }
        if self.windows is not None:
            canonical["windows"] = table("windows", self.windows, WINDOWS)
        for name, value in canonical.items():
            object.__setattr__(self, name, value)
        if not self.timeline["second"].diff().dropna().gt(0).all():
            raise InvalidArgument("the timeline's seconds must rise from row to row")

    @property
    def holds(self) -> bool:
        """Every finding holds, and the run put them to a test."""
        return not self.broken and self.untested is None

    @property
    def broken(self) -> int:
        """How many findings do not hold."""
        return sum(not finding.holds for finding in self.findings)

    @property
    def verdict(self) -> str:
        """``HOLDS``, ``BROKEN`` or ``SHOWS NOTHING``. What broke in a poor test broke too."""
        return "BROKEN" if self.broken else "HOLDS" if self.untested is None else "SHOWS NOTHING"

    @property
    def open_loop(self) -> bool:
        """Whether calls were due at a rate, whatever the answers took."""
        return self.settings.get("rate") is not None

    @property
    def latency_all(self) -> Recorder:
        """All calls together."""
        merged = Recorder()
        for recorder in self.latency.values():
            merged.merge(recorder)
        return merged

    @property
    def calls(self) -> int:
        """All calls, the failed ones too."""
        return sum(recorder.count for recorder in self.latency.values())

    @property
    def rate(self) -> float:
        """Calls a second over the whole run."""
        return self.calls / self.seconds

    @property
    def errors_total(self) -> int:
        """Failed calls."""
        return sum(self.errors.values())

    def latency_frame(self, *, total: bool = False) -> pd.DataFrame:
        """A row per name of call: count, mean_us, p50_us … p99.9_us, max_us.

        ``total`` adds a row of all calls together where there are several names.
        """
        several = total and len(self.latency) > 1
        named = dict(self.latency) | ({"all calls": self.latency_all} if several else {})
        rows = [
            {"name": name, "count": recorder.count, "mean_us": recorder.mean * 1e6}
            | {f"p{p:g}_us": recorder.percentile(p) * 1e6 for p in PERCENTILES}
            | {"max_us": recorder.max * 1e6}
            for name, recorder in named.items()
        ]
        names = ["name", "count", "mean_us", *(f"p{p:g}_us" for p in PERCENTILES), "max_us"]
        return pd.DataFrame(rows, columns=names)

    def intervals(self) -> pd.DataFrame:
        """The timeline with ``width`` (s), ``rate``, ``error_rate`` and ``due_rate`` (a second).

        A last interval less than half as wide as the others says nothing of a rate: left out.
        """
        frame = self.timeline.copy()
        width = frame["second"].shift(-1) - frame["second"]
        usual = float(width.median()) if len(frame) > 1 else self.seconds
        if len(frame):
            left = self.seconds - float(frame["second"].iloc[-1])
            width.iloc[-1] = min(left, usual) if left > 0 else usual
        frame["width"] = width
        for column, of in (("rate", "calls"), ("error_rate", "errors"), ("due_rate", "due")):
            frame[column] = frame[of] / width
        return frame[width >= usual / 2].reset_index(drop=True)

    def worst_interval(self) -> pd.Series | None:
        """The interval with the highest p99, the first and the last left out; None without one.

        Users connect in the first interval and stop in the last one. Their p99 is that of the
        load generator's own start and stop, not of the store.
        """
        inner = self.intervals().iloc[1:-1]
        called = inner[inner["p99_us"].notna()]
        return called.loc[called["p99_us"].idxmax()] if len(called) else None

    def save(self, folder: str | PathLike[str], pages: Mapping[str, str] = {}) -> Path:
        """Write the folder, which must be new or empty, and return its path.

        ``pages``: further texts for the folder by file name. ``read`` does not read them.
        """
        target = Path(folder).resolve()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InvalidArgument(f"{target} is there already; no run is written over another")
        latency = {name: recorder.to_dict() for name, recorder in self.latency.items()}
        kept = {
            "timeline.csv": self.timeline.to_csv(index=False),
            "latency.json": dumps(latency, sort=False),
        }
        if self.windows is not None:
            kept["windows.csv"] = self.windows.to_csv(index=False)
        texts = kept | {"latency.csv": self.latency_frame().to_csv(index=False), **pages}
        # Written last: what has no run.json is no run.
        texts["run.json"] = dumps(self._facts() | {"files": {n: sha(t) for n, t in kept.items()}})
        beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        beside.mkdir(parents=True)
        try:
            for name, text in texts.items():
                (beside / name).write_bytes(encoded(text))
            beside.rename(target)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        return target

    @classmethod
    def read(cls, folder: str | PathLike[str]) -> LoadRun:
        """Read what ``save`` wrote. Raises ``InvalidArgument`` that names the file at fault."""
        place = Path(folder)
        if not (place / "run.json").is_file():
            raise InvalidArgument(f"{place} holds no load run: there is no run.json in it")
        with reading(place / "run.json") as raw:
            facts: dict[str, Any] = json.loads(raw)
            same_format(facts.pop("format", None))
            del facts["verdict"]
            files = {str(name): str(sha) for name, sha in facts.pop("files").items()}
            facts["faults"] = tuple(Fault(**fault) for fault in facts["faults"])
            facts["findings"] = tuple(
                Finding(**finding | {"evidence": tuple(finding["evidence"])})
                for finding in facts["findings"]
            )
            if facts["generator"] is not None:
                facts["generator"] = Generator(**facts["generator"])
        with reading(place / "timeline.csv", files) as raw:
            facts["timeline"] = parse(raw, TIMELINE)
        with reading(place / "latency.json", files) as raw:
            saved = json.loads(raw)
            facts["latency"] = {name: Recorder.from_dict(data) for name, data in saved.items()}
        if "windows.csv" in files:
            with reading(place / "windows.csv", files) as raw:
                facts["windows"] = parse(raw, WINDOWS)
        with reading(place / "run.json"):
            return cls(**facts)

    def _facts(self) -> dict[str, Any]:
        names = ("pattern", "title", "settings", "machine", "began", "seconds", "errors")
        return {name: getattr(self, name) for name in (*names, "untested", "verdict")} | {
            "format": FORMAT,
            "faults": [asdict(fault) for fault in self.faults],
            "findings": [asdict(finding) for finding in self.findings],
            "generator": None if self.generator is None else asdict(self.generator),
        }
