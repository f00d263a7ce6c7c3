"""How the reports of load runs write a share, a duration, and a text of unknown origin."""

from __future__ import annotations


def percent(share: float) -> str:
    """``0.9`` as ``90 %``."""
    return f"{share * 100:.0f} %"


def duration(seconds: float) -> str:
    """Three digits, in seconds, milliseconds or microseconds; "–" where it is unknown (NaN)."""
    if seconds != seconds:
        return "–"
    if not seconds < 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def printable(text: str, longest: int | None = None) -> str:
    """``text`` on one line, control characters spelled out, at most ``longest`` characters."""
    kept = text if longest is None else text[: longest + 1]
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in kept)
    return shown if longest is None or len(shown) <= longest else shown[: longest - 1] + "…"
