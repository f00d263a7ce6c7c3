"""Shorter words for what is long and says little: tokens, points in time, digits after the point.

Two words that differ stay different, as far as random tokens and near times go: of a token the
first characters are kept, of a time since 1970 the last digits.

    5250be6c-bc00-4672-9ef4-61df5757fe1c    5250be…
    1795893026072                           …026072
    0.44029403025                           0.4402…
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
    \b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b  # a UUID
    | (?<![A-Za-z0-9_])(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{12,}(?![A-Za-z0-9_])  # hexadecimal
    | (?<![A-Za-z0-9_-])                                              # URL-safe base 64
      (?=[a-z0-9_-]*[A-Z])(?=[A-Z0-9_-]*[a-z])(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{22,}
    """,
    re.VERBOSE,
)
_TIME = re.compile(r"(?<![\d.])1\d{12}(\d{3})?(?!\d)")  # in ms or in µs
_DATE = re.compile(r"\d\d:\d\d:\d\d(\.\d+)?|\d{4}-\d\d-\d\d|1\d{9,}(\.\d+)?")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}")
_NUMBERED, _LETTER = re.compile(r"[\w-]*\d[\w-]*"), re.compile("[A-Za-z]")
_FRACTION = re.compile(r"(\d\.\d{4})\d{5,}")


MOST = 10_000
"""Characters of each end of a long text that are looked at: more is never shown, and costs time."""


def shortened(text: str) -> str:
    """The text with its tokens, times and fractions shortened; of a long text both ends."""
    if len(text) > 2 * MOST:
        text = f"{text[:MOST]}…{text[-MOST:]}"
    text = _TOKEN.sub(lambda found: found[0][:6] + "…", text)
    text = _TIME.sub(lambda found: "…" + found[0][-6:], text)
    return _FRACTION.sub(r"\1…", text)


def steady(text: str) -> str:
    """The text without what another run would say otherwise: tokens, times, addresses."""
    return _ADDRESS.sub("…", _DATE.sub("…", _TOKEN.sub("…", text)))


def essence(text: str) -> str:
    """What stays the same in each run when clocks go on and tokens are drawn: by chance, or as
    "token 7" by a counter."""
    text = steady(text)
    return _NUMBERED.sub("…", text) if _LETTER.search(text) else text
