"""Instruments: workloads, latency recorder, experiments, faults, a slow database, charts.

They need the extra ``lab``. Names are loaded on first use, so that ``import kvlab`` stays light.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "workload": ("Uniform", "Zipf", "Hotspot", "Scan", "ClosedLoop", "OpenLoop", "Trace"),
    "recorder": ("Recorder",),
    "result": ("Result",),
    "experiment": ("run",),
    "machine": ("environment",),
    "comparison": ("repeat", "compare", "Comparison"),
    "theory": ("ttl_hit_ratio", "che_lru_hit_ratio"),
    "faults": ("Proxy", "paused"),
    "interleave": ("Story", "Violated", "World", "explore", "replay", "step"),
    "gate": ("Gate", "GatedRedis", "ClientCrashed", "gated"),
    "linearizability": ("Operation", "judge_history"),
    "load_run": ("LoadRun",),
    "oracle": ("Verdict", "DenialVerdict", "judge", "judge_denials", "certain_overlap"),
    "score_oracle": ("ScoreVerdict", "Submissions", "judge_scores"),
    "origin": ("Origin",),
}
_MODULES = (*_HOME, "charts", "load_charts", "plots", "resp", "style")
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [*_WHERE, "charts", "load_charts", "plots", "theory"]


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name) or (name if name in _MODULES else None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        loaded = importlib.import_module(f"{__name__}.{module}")
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("kvlab"):
            raise
        raise ModuleNotFoundError(
            f'{__name__}.{name} needs {missing.name}: pip install "kvlab[lab]"', name=missing.name
        ) from missing
    return getattr(loaded, name) if name in _WHERE else loaded


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
