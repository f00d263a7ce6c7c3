"""The board: submissions, ranks, neighbours and pages, each in one script."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, timezone
from itertools import chain, islice
from typing import Any, Final, Literal

from kvlab.core.checks import Id, function, id_text, items, keep, one_of, seconds, text, whole
from kvlab.core.flow import Call, Flow, flow, together
from kvlab.core.key import Key, segment
from kvlab.core.op import Arg, Op, Raw, Script, milliseconds
from kvlab.errors import BatchFailed
from kvlab.leaderboard.periods import At, Every, Periods
from kvlab.leaderboard.values import (
    MAX_SCORE,
    Entry,
    Page,
    Submission,
    as_sent,
    columns,
    entries_of,
    refused_submission,
    score_of,
    score_text,
)

Order = Literal["desc", "asc"]
Ties = Literal["first", "shared", "dense"]
Mode = Literal["set", "best", "add"]

MAX_ENTRIES: Final = 10_000
"""The most entries in one answer: a longer answer would delay the server's other callers."""

_PARTS = {"first": ("scores", "places"), "shared": ("scores",), "dense": ("scores", "levels")}
_ROWS, _OPS = 500, 8  # of a load: rows in a step, steps in a round trip


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A board. See the docstring of ``kvlab.leaderboard`` for its guarantee.

    * ``order``: "desc", highest score first, or "asc", lowest score first (golf, lap times).
    * ``ties``: "first", "shared" or "dense".
    * ``period``: None for all time, or a board for each "daily" or "weekly" (ISO week) period,
      by the server's clock in ``tz``, a fixed offset from UTC.
    * ``keep``: how many past periods stay readable. An op without ``at`` names the keys of
      ``keep + 2`` boards, so a large ``keep`` costs bandwidth; an op with ``at`` names one board.
    * ``op_horizon``: the answer to an ``op_id`` is remembered for this many seconds.

    A member is an id (``kvlab.core.checks``) and comes back as its text. Raises InvalidArgument for
    a value out of range.
    """

    name: str
    order: Order = "desc"
    ties: Ties = "first"
    period: Every | None = None
    tz: timezone = UTC
    keep: int = 1
    op_horizon: float = 3600
    _periods: Periods = field(init=False, repr=False, compare=False)
    _stem: str = field(init=False, repr=False, compare=False)
    _state: Key = field(init=False, repr=False, compare=False)
    _sets: tuple[tuple[Key, ...], ...] = field(init=False, repr=False, compare=False)
    _now: tuple[Arg, ...] = field(init=False, repr=False, compare=False)
    _rules: tuple[Arg, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        name = text("name", self.name)
        order = one_of("order", self.order, ("desc", "asc"))
        ties = one_of("ties", self.ties, _PARTS)
        horizon = seconds("op_horizon", self.op_horizon, 1, 366 * 86_400)
        periods = Periods(self.period, self.tz, self.keep)
        stem = f"leaderboard:{{{segment(name)}}}:{order}.{ties}{periods.title}"
        sets = periods.sets(stem, _PARTS[ties])
        now = tuple(key for one in sets for key in one)
        rules = (order, ties, periods.length, periods.shift, periods.keep)
        keep(self, name=name, order=order, ties=ties, op_horizon=horizon)
        keep(self, period=periods.every, keep=periods.keep, _periods=periods, _stem=stem)
        keep(self, _state=Key(f"{stem}:state"), _sets=sets, _now=now, _rules=rules)

    # --- writing ---------------------------------------------------------------------------

    def submit(
        self,
        member: Id,
        score: float,
        mode: Mode = "set",
        *,
        op_id: Id | None = None,
        at: At | None = None,
    ) -> Op[Submission]:
        """Give a member a score.

        ``mode``: "set" replaces its score, "best" replaces only a worse score, "add" adds to its
        score (a new member begins at 0). ``at``, an aware datetime or Unix seconds, chooses the
        period board; without ``at`` the server's clock chooses.

        With ``op_id`` a repetition within ``op_horizon`` seconds changes nothing and gives the
        first answer again; each member has its own ids. Without ``op_id``, "set" and "best" are
        still retried, except where the clock chooses the board: a retry may fall into the next
        period.

        Raises InvalidArgument for a score that is not finite or beyond ±``MAX_SCORE``,
        :class:`~kvlab.errors.ScoreOutOfRange` for a sum that would be rounded or go beyond,
        :class:`~kvlab.errors.PeriodClosed` for a period neither kept nor next,
        :class:`~kvlab.errors.OpIdReused` when ``op_id`` stood for another submission.
        """
        who, points = id_text("member", member), score_text(score)
        how = one_of("mode", mode, ("set", "best", "add"))
        keys, rules = self._where(at)
        receipt_ms = 0
        if op_id is not None:
            receipt = f"{segment(who)}:{segment(id_text('op_id', op_id, empty=False))}"
            keys = (*keys, Key(f"{self._stem}:op:{receipt}"))
            receipt_ms = milliseconds(self.op_horizon)

        def decode(reply: Raw) -> Submission:
            if reply[0] != b"ok":
                raise refused_submission(reply, who, score, how, op_id, at)
            entry = Entry(reply[1], who, score_of(reply[2]))
            return Submission(entry, reply[3] == 1)

        return Op(
            Script.load("leaderboard/submit"),
            *keys,
            *rules,
            as_sent(who),
            points,
            how,
            receipt_ms,
            decode=decode,
            idempotent=op_id is not None or (how != "add" and self._is_fixed(at)),
        )

    def load(
        self,
        rows: Iterable[tuple[Id, float]],
        *,
        at: At | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Flow[int]:
        """Set many members' scores from (member, score) pairs; returns how many pairs were read.

        A round trip carries 4,000 pairs in steps of 500: other callers see the board between two
        steps. The order of the pairs counts: under "first" the earlier of two equal scores
        ranks higher, and of several pairs for one member in a step the last one counts.
        ``progress`` is called after each round trip with its number of pairs (``tqdm.update``
        fits). After an error, run the flow again from the start: the loaded members keep their
        places. A generator does not begin again: make a new flow, with a new generator.

        Raises as :meth:`submit` does; the pairs before the error stay loaded.
        """
        self._where(at)
        if progress is not None:
            function("progress", progress)
        return self._loading(items("rows", rows), at, progress)

    @flow
    def _loading(self, rows: Any, at: At | None, progress: Any) -> Generator[Any, Any, int]:
        done, pairs = 0, iter(rows)
        while chunks := [c for c in (list(islice(pairs, _ROWS)) for _ in range(_OPS)) if c]:
            count = sum(map(len, chunks))
            try:
                yield from together(*(self._load(chunk, at) for chunk in chunks))
            except BatchFailed as failed:
                raise next(r for r in failed.results if isinstance(r, Exception)) from failed
            done += count
            if progress is not None:
                yield Call(progress, (count,))
        return done

    def _load(self, rows: list[tuple[Id, float]], at: At | None) -> Op[int]:
        names, texts = columns(rows)
        scores = dict(zip(names, texts, strict=True))
        if len(scores) < len(names):  # the place of the last pair counts too
            for name in names:
                scores[name] = scores.pop(name)
        if self.ties == "shared" and self.period is None:  # a sorted set and nothing else
            pairs = chain.from_iterable(zip(scores.values(), scores, strict=True))
            return Op("ZADD", *self._now, *pairs, decode=lambda _: len(rows), idempotent=True)

        def decode(reply: Raw) -> int:
            if reply[0] != b"ok":
                raise refused_submission(reply, rows[0][0], rows[0][1], "set", None, at)
            return len(rows)

        keys, rules = self._where(at)
        return Op(
            Script.load("leaderboard/load"),
            *keys,
            *rules,
            len(scores),
            *scores,
            *scores.values(),
            decode=decode,
            idempotent=self._is_fixed(at),
        )

    def remove(self, member: Id, *, at: At | None = None) -> Op[bool]:
        """Remove a member; True if the member was on the board.

        A repetition is harmless, but answers False: the executor does not retry it.
        """
        keys, rules = self._where(at)
        return Op(Script.load("leaderboard/remove"), *keys, *rules, as_sent(member), decode=bool)

    # --- reading ---------------------------------------------------------------------------

    def top(self, n: int, *, at: At | None = None) -> Op[list[Entry]]:
        """The first ``n`` entries; ``n`` is from 0 (an empty list) to ``MAX_ENTRIES``."""
        n = whole("n", n, 0, MAX_ENTRIES)
        return self._read("from", 0, n, at, lambda reply: entries_of(reply, self.ties))

    def page(self, number: int, size: int, *, at: At | None = None) -> Op[Page]:
        """Page ``number``, from 1, of ``size`` entries, and the number of members on the board."""
        number = whole("number", number, 1, MAX_SCORE // MAX_ENTRIES)
        size = whole("size", size, 1, MAX_ENTRIES)

        def decode(reply: Raw) -> Page:
            return Page(number, size, reply[0], entries_of(reply, self.ties))

        return self._read("from", (number - 1) * size, size, at, decode)

    def rank(self, member: Id, *, at: At | None = None) -> Op[Entry | None]:
        """The member's rank and score, or None."""

        def decode(reply: Raw) -> Entry | None:
            return None if reply is None else entries_of(reply, self.ties)[0]

        return self._read("around", as_sent(member), 0, at, decode)

    def around(self, member: Id, n: int, *, at: At | None = None) -> Op[list[Entry] | None]:
        """The member with ``n`` neighbours on each side (fewer at an end); None if absent.

        ``n`` is from 0 to ``MAX_ENTRIES``/2.
        """
        n = whole("n", n, 0, MAX_ENTRIES // 2)

        def decode(reply: Raw) -> list[Entry] | None:
            return None if reply is None else entries_of(reply, self.ties)

        return self._read("around", as_sent(member), n, at, decode)

    def _read(
        self, what: str, where: Arg, count: int, at: At | None, decode: Callable[[Raw], Any]
    ) -> Op[Any]:
        keys, rules = self._where(at)
        script = Script.load("leaderboard/read")
        return Op(script, *keys, *rules, what, where, count, decode=decode, idempotent=True)

    # --- which board -----------------------------------------------------------------------

    def _where(self, at: At | None) -> tuple[tuple[Arg, ...], tuple[Arg, ...]]:
        """The keys and the first six arguments of every script."""
        if at is None:
            return (self._state, *self._now), (*self._rules, "")
        number = self._periods.number(at)
        return (self._state, *self._sets[number % len(self._sets)]), (*self._rules, number)

    def _is_fixed(self, at: At | None) -> bool:
        """Whether a retry certainly uses the same board."""
        return self.period is None or at is not None
