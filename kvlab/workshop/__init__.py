"""What a workshop needs around the patterns: checks, hints, progress, the room, the doctor.

``from kvlab.workshop import check, hint, predict`` is what a notebook needs.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "check": "learner.check",
    "hint": "learner.hints",
    "predict": "learner.predictions",
    "progress": "learner.progress",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
