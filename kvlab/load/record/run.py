"""The record of one load run, and the folder that keeps it.

Guarantee: ``LoadRun.read(folder)`` returns the run that ``save(folder)`` wrote, every number to the
last bit. A folder appears complete or not at all: it is written under another name, then renamed.
A file that is missing, cut short or changed is refused by name.

The folder:

    run.json       everything but the tables and histograms; the SHA-256 of the files read back
    timeline.csv   a row per interval, columns as ``TIMELINE``
    windows.csv    rate limiter: a row per key and window, columns as ``WINDOWS``
    latency.json   a Recorder by name of call, nanoseconds
    stages.json    the same by stage of a call, and of the generator's timers
    latency.csv    count, mean, percentiles and maximum by name of call, µs: for a spreadsheet
    report.html    the page for people

Addresses in settings and error messages keep only their scheme and path: host, port, user and
password are removed. Not promised: that the folder survives a loss of power; that host names in
other texts are removed.
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
from kvlab.load.record.parts import TIMELINE, WINDOWS, Fault, Finding, Generator


@dataclass(frozen=True, slots=True, eq=False)
class LoadRun:
    """One run. ``began``: Unix seconds. ``latency``: by name of call, from the intended start.

    ``stages``: the parts of a latency, ``WAITED`` and ``ANSWERED`` (open loop alone), and ``LATE``,
    how late the generator's timers were.

    A failed call counts, with the time that it took. ``untested`` says why the run shows nothing; a
    run without a finding needs it. ``settings`` and ``machine`` are JSON data. Among the settings,
    ``rate`` (calls a second) makes the run an open loop, and ``users`` is shown. Raises
    ``InvalidArgument`` for anything that could not be read back.
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
    stages: Mapping[str, Recorder] = field(default_factory=dict)
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
            "stages": dict(self.stages),
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
        """Every finding holds, and the run has tested them."""
        return not self.broken and self.untested is None

    @property
    def broken(self) -> int:
        """How many findings do not hold."""
        return sum(not finding.holds for finding in self.findings)

    @property
    def verdict(self) -> str:
        """``HOLDS``, ``BROKEN`` or ``SHOWS NOTHING``. What broke counts, tested or not."""
        return "BROKEN" if self.broken else "HOLDS" if self.untested is None else "SHOWS NOTHING"

    @property
    def open_loop(self) -> bool:
        """Whether calls were due at a rate, however long the answers took."""
        return self.settings.get("rate") is not None

    @property
    def latency_all(self) -> Recorder:
        """The latencies of all calls together."""
        merged = Recorder()
        for recorder in self.latency.values():
            merged.merge(recorder)
        return merged

    @property
    def calls(self) -> int:
        """The number of calls, failed calls included."""
        return sum(recorder.count for recorder in self.latency.values())

    @property
    def rate(self) -> float:
        """Calls a second over the whole run."""
        return self.calls / self.seconds

    @property
    def errors_total(self) -> int:
        """The number of failed calls."""
        return sum(self.errors.values())

    def latency_frame(self, *, total: bool = False) -> pd.DataFrame:
        """A row per name of call: count, mean_us, p50_us … p99.9_us, max_us.

        ``total`` adds a row of all calls together where there are several names, and the stages.
        """
        several = total and len(self.latency) > 1
        named = dict(self.latency) | ({"all calls": self.latency_all} if several else {})
        named |= self.stages if total else {}
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

        Intervals less than half as wide as the others are left out: their rate says nothing.
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
        """The interval with the highest p99; None when nothing was called."""
        intervals = self.intervals()
        called = intervals[intervals["p99_us"].notna()]
        return called.loc[called["p99_us"].idxmax()] if len(called) else None

    def save(self, folder: str | PathLike[str], pages: Mapping[str, str] = {}) -> Path:
        """Write the folder, which must be new or empty, and return its path.

        ``pages``: further texts for the folder by file name. ``read`` does not read them.
        """
        target = Path(folder).resolve()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InvalidArgument(f"{target} is there already; no run is written over another")
        latency, stages = (
            {name: recorder.to_dict() for name, recorder in recorders.items()}
            for recorders in (self.latency, self.stages)
        )
        kept = {
            "timeline.csv": self.timeline.to_csv(index=False),
            "latency.json": dumps(latency, sort=False),
            "stages.json": dumps(stages, sort=False),
        }
        if self.windows is not None:
            kept["windows.csv"] = self.windows.to_csv(index=False)
        texts = kept | {"latency.csv": self.latency_frame().to_csv(index=False), **pages}
        # Written last: a folder without run.json holds no run.
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
        for kept in ("latency", "stages"):
            with reading(place / f"{kept}.json", files) as raw:
                saved = json.loads(raw)
                facts[kept] = {name: Recorder.from_dict(data) for name, data in saved.items()}
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
