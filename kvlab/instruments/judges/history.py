"""The operations of concurrent clients: what a history is made of."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda _: "?"})()
"""The answer of an operation without an answer."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one client: ``do`` with its ``arguments``, and the ``answer``.

    ``called`` and ``returned`` are readings of one clock that all clients share. An operation
    without an answer has the answer ``UNKNOWN`` and returned ``inf``. ``on``: the object.
    """

    client: Hashable
    do: str
    arguments: tuple[Any, ...]
    answer: Any
    called: float
    returned: float = math.inf
    on: Hashable = None

    def __str__(self) -> str:
        asked = ", ".join(map(repr, self.arguments))
        return f"{self.client}: {self.do}({asked}) → {self.answer!r}"
