"""The kept run of ``kvlab bench``: chapter 11 and the README have its figures."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def kept_folder() -> Path:
    """For ``BenchRun.load``."""
    return Path(str(resources.files("benchmarks") / "results" / "bench"))
