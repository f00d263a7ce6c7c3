"""What the judge of a leaderboard needs: every submission, and short sampled histories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from kvlab.instruments.judges.linearizability import UNKNOWN, Operation
from kvlab.instruments.judges.scores import Submissions


class BoardFacts:
    """``mode``: what a submission does."""

    def __init__(self, mode: Literal["add", "best"]) -> None:
        self.submissions = Submissions(mode)
        self.histories: list[list[Operation]] = []

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for another process."""
        rows = [
            [(o.client, o.do, o.arguments, _plain(o.answer), o.called, o.returned) for o in history]
            for history in self.histories
        ]
        return {"submissions": self.submissions.to_dict(), "histories": rows}

    def add(self, data: Mapping[str, Any]) -> None:
        """Add what another process noted."""
        self.submissions = self.submissions.merge(Submissions.from_dict(data["submissions"]))
        for rows in data["histories"]:
            self.histories.append(
                [
                    Operation(client, do, tuple(arguments), _answer(answer), called, returned)
                    for client, do, arguments, answer, called, returned in rows
                ]
            )


def _plain(answer: Any) -> Any:
    return {"unknown": True} if answer is UNKNOWN else answer


def _answer(plain: Any) -> Any:
    """An answer as it was before it travelled: lists were tuples."""
    if isinstance(plain, dict):
        return UNKNOWN
    return tuple(map(tuple, plain)) if isinstance(plain, list | tuple) else plain
