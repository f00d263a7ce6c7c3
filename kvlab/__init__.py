"""kvlab: the eight common key-value patterns, shown breaking, then holding, on a real server."""

from __future__ import annotations

__version__ = "0.1.0"
