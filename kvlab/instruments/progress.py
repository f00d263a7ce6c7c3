"""A progress bar, shown after one second in a terminal or a notebook, never in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

IN_NOTEBOOK = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)


def progress_bar(total: int | None, name: str, *, show: bool = True) -> Any:
    """A tqdm bar, to be used as a context manager."""
    quiet = not show or not (IN_NOTEBOOK or sys.stderr.isatty())
    return tqdm(total=total, desc=name or None, delay=1, leave=False, disable=quiet)
