"""The record of one ``kvlab bench``: every turn of every row, and the folder that keeps them.

The folder:

    run.json     everything: settings with seeds, versions, the machine, each turn of each row
    rows.csv     a row a comparison: the ratio, its interval, the medians, the words
    turns.csv    a row a turn: the seconds of both sides, and their order
    report.html  the page for people

``BenchRun.load(folder)`` reads run.json alone and returns the run that ``save`` wrote, every number
to the last bit. No host name, user, path or address is kept.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlab.bench.reading import facts_in
from kvlab.errors import InvalidArgument
from kvlab.instruments.measure.comparison import Comparison, ratio_over_turns
from kvlab.instruments.measure.turns import Taken
from kvlab.load.record.files import empty_folder

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "kvlab-bench-run-1"
CONTROL = "control"
"""The benchmark whose rows compare a thing with itself (A/A)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one row. Seconds of a call; how many places ours came after the peer."""

    round: int
    turn: int
    ours: float
    peer: float
    after: float


@dataclass(frozen=True)
class Row:
    """One comparison. ``subject`` over ``peer``; ``less``: what the peer does less."""

    benchmark: str
    case: str
    what: str
    subject: str
    peer: str
    version: str
    less: str
    turns: tuple[Turn, ...]

    @property
    def key(self) -> tuple[str, str, str]:
        """The same in every run, whatever the version of the peer."""
        return self.benchmark, self.case, self.peer

    @property
    def name(self) -> str:
        """As in "FixedWindow.hit / limits 5.8.0"."""
        return f"{self.case} / {f'{self.peer} {self.version}'.strip()}"

    @property
    def of_package(self) -> bool:
        """Whether the row compares kvlab with a package that people install in its place.

        The same script by redis-py, a bare socket and the tutorial's version are none.
        """
        same = self.peer.startswith(("the same script", "the same writes"))
        own = self.subject == "kvlab" and self.benchmark != CONTROL
        return own and bool(self.version) and not same

    @cached_property
    def compared(self) -> Comparison:
        """The ratio of the two sides over all turns."""
        ours = Taken((t.ours for t in self.turns), (t.after for t in self.turns))
        peer = Taken((t.peer for t in self.turns), (0 for _ in self.turns))
        return ratio_over_turns(ours, peer)

    @property
    def medians(self) -> tuple[float, float]:
        """Seconds: ours, the peer's."""
        return statistics.median(self.compared.a), statistics.median(self.compared.b)


@dataclass(frozen=True)
class BenchRun:
    """One run. ``began``: Unix seconds. ``absent``: peers that were not installed, in words.

    ``failed``: by benchmark, or benchmark and case, why its rows are missing.
    """

    began: float
    seconds: float
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    rows: tuple[Row, ...]
    absent: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def noise(self) -> float:
        """The largest ratio above 1 that the interval of an A/A row reaches; 1 without such rows.

        So much the machine's noise alone may do to a row of this run.
        """
        ends = [1.0]
        for row in self.rows:
            if row.benchmark == CONTROL:
                ends += [row.compared.high, 1 / row.compared.low if row.compared.low else math.inf]
        return max(ends)

    @property
    def noise_in_words(self) -> str:
        """As in "1.2 %"."""
        return f"{self.noise - 1:.1%}".replace("%", " %")

    def differs(self, row: Row) -> bool:
        """Whether the row's interval excludes 1, and its ratio lies outside the noise."""
        outside = not 1 / self.noise <= row.compared.ratio <= self.noise
        return row.compared.differs and outside and row.benchmark != CONTROL

    def says(self, row: Row) -> str:
        """As in "kvlab takes 0.72 of the time (0.70 to 0.75), 28 % quicker"."""
        text = f"{row.subject} takes {row.compared}"
        if row.compared.differs and not self.differs(row):
            reach = f"{self.noise - 1:.0%}".replace("%", " %")
            text = f"{text.rpartition(', ')[0]}, no difference seen: inside the noise of {reach}"
        return text

    def frame(self) -> pd.DataFrame:
        """A row a comparison, for pandas."""
        import pandas as pd

        return pd.DataFrame([self._facts(row) for row in self.rows])

    def turns_frame(self) -> pd.DataFrame:
        """A row a turn, for pandas."""
        import pandas as pd

        return pd.DataFrame(
            [
                {"benchmark": row.benchmark, "case": row.case, "peer": row.peer} | asdict(turn)
                for row in self.rows
                for turn in row.turns
            ]
        )

    def _facts(self, row: Row) -> dict[str, Any]:
        ours, peer = row.medians
        return {
            "benchmark": row.benchmark,
            "case": row.case,
            "subject": row.subject,
            "peer": row.peer,
            "version": row.version,
            "of_package": row.of_package,
            "ratio": row.compared.ratio,
            "low": row.compared.low,
            "high": row.compared.high,
            "differs": self.differs(row),
            "ours_us": ours * 1e6,
            "peer_us": peer * 1e6,
            "turns": len(row.turns),
            "says": self.says(row),
        }

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write the folder, which must be new or empty, and return its path."""
        target = empty_folder(folder)
        texts = {
            "rows.csv": self.frame().to_csv(index=False),
            "turns.csv": self.turns_frame().to_csv(index=False),
            "run.json": json.dumps({"format": FORMAT} | asdict(self)) + "\n",
        }
        for name, text in texts.items():  # run.json last: a folder without it holds no run
            (target / name).write_text(text, encoding="utf-8")
        return target

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> BenchRun:
        """Read what ``save`` wrote; every field is checked.

        Raises ``InvalidArgument``, which names the file and the field, for any other folder.
        """
        file = Path(folder) / "run.json"
        if not file.is_file():
            raise InvalidArgument(f"{folder} holds no run of kvlab bench: no run.json is in it")
        facts = facts_in(file, FORMAT)
        rows = (
            row | {"turns": tuple(Turn(**turn) for turn in row["turns"])} for row in facts["rows"]
        )
        return cls(**facts | {"rows": tuple(Row(**row) for row in rows)})
