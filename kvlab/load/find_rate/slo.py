"""A service level: a percentile of the latency from the intended start, and its bound."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.recorder import Recorder
from kvlab.load.record.words import duration

_UNITS = {"us": 1e6, "µs": 1e6, "ms": 1e3, "s": 1.0}
"""Of them to a second."""
_FORM = re.compile(r"p(\d{1,2}(?:\.\d{1,3})?)=(\d+(?:\.\d+)?)(us|µs|ms|s)")


@dataclass(frozen=True, slots=True)
class Slo:
    """``percent`` of the calls take at most ``seconds``."""

    percent: float
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Of a text as in ``p99=5ms``. Raises ``InvalidArgument`` for another."""
        found = _FORM.fullmatch(text.strip())
        if not found or not float(found[1]) or not float(found[2]):
            raise InvalidArgument(f"an SLO must be like p99=5ms or p99.9=800us, not {text!r}")
        return cls(float(found[1]), float(found[2]) / _UNITS[found[3]])

    def __str__(self) -> str:
        return f"p{self.percent:g} of {duration(self.seconds)}"

    def broken_by(self, latency: Recorder) -> str | None:
        """What the percentile was, if above the bound."""
        took = latency.percentile(self.percent)
        if took <= self.seconds:
            return None
        return f"p{self.percent:g} is {duration(took)}, above {duration(self.seconds)}"


def parsed(texts: Iterable[str]) -> tuple[Slo, ...]:
    """All of them; at least one is needed."""
    slos = tuple(map(Slo.parse, texts))
    if not slos:
        raise InvalidArgument("--find-rate needs an --slo, such as --slo p99=5ms")
    return slos
