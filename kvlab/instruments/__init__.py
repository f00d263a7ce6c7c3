"""Instruments: the explorer, faults, experiments and their workloads, judges, charts.

Instruments need the extra ``lab``. A name is loaded at its first use, so that ``import kvlab``
stays light.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "charts": ("charts",),
    "explorer.explore": ("Story", "Violated", "World", "explore", "replay", "step"),
    "explorer.run.settings": ("ALL_FAULTS", "Faults"),
    "faults.client_gate": ("Gate", "GatedRedis", "ClientCrashed", "gated"),
    "faults.failover": ("Failover",),
    "faults.paused": ("paused",),
    "faults.proxy": ("Proxy",),
    "faults.slow_database": ("Origin",),
    "judges.admissions": ("AdmissionVerdict", "judge", "certain_overlap"),
    "judges.denials": ("DenialVerdict", "judge_denials"),
    "judges.linearizability": ("HistoryVerdict", "Operation", "judge_history"),
    "judges.scores": ("ScoreVerdict", "Submissions", "judge_scores"),
    "measure.access_log": ("read_access_log",),
    "measure.comparison": ("Comparison", "compare", "ratio_over_turns"),
    "measure.experiment": ("experiment",),
    "measure.machine": ("environment",),
    "measure.recorder": ("Recorder",),
    "measure.result": ("Result",),
    "measure.theory": ("theory", "ttl_hit_ratio", "che_lru_hit_ratio"),
    "measure.turns": ("in_turns", "merged"),
    "measure.workload": (
        "Uniform",
        "Zipf",
        "Hotspot",
        "Scan",
        "Latest",
        "ClosedLoop",
        "OpenLoop",
        "Trace",
    ),
}
_OLDER_NAMES = {"run": "experiment", "Verdict": "AdmissionVerdict"}
"""Names of earlier scripts, each with the one name that the thing has now."""
_MODULES = {"charts", "theory"}
"""Of these names the module itself is meant."""
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    name = _OLDER_NAMES.get(name, name)
    module = _WHERE.get(name)
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
    return loaded if name in _MODULES else getattr(loaded, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
