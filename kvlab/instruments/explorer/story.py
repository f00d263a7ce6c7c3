"""What an exploration found, and how it is shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from kvlab.errors import InvalidArgument
from kvlab.instruments.explorer.game.page import MOST_ENDS, TITLE, Explored, Game, game_of
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.instruments.explorer.timeline.timeline import Timeline

_DECIDES = (
    "to decide it, allow more max_steps, or let a client that polls for a TTL sleep longer; a "
    "client that polls for what never comes needs a deadline"
)
_FROZEN = (
    "a time of the client's own clock is in a command, and this clock stands still: try "
    "clock_jumps=[0.001] for one that goes on, and [60, -60] for one that is wrong"
)
_MANY = 1000  # runs
_BOUND = (
    "in one run, and each wait multiplies the runs: bound the polls (fewer tries, a deadline after "
    "two or three, a longer sleep, a shorter TTL of what they wait for)"
)
_NEEDED = {
    "crashes": "a client crashes only between two of its steps",
    "lost_replies": "they need a command that does not block",
    "lost_requests": "they need a command that does not block",
    "expiries": "they need a key with a TTL, or a blocking command",
    "script_flushes": "they need a step",
    "failovers": "they need a write, and a step after it",
    "clock_jumps": "they need a client that reads time.time()",
}
"""What a fault of each kind needs."""


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{what} in {count:,}" for what, count in counter.items())


class Violated(AssertionError):
    """The truth of a story was asserted, and the story is broken; the message is its timeline."""


@dataclass(frozen=True)
class Story:
    """What an exploration found. As the last value of a notebook cell it draws ``shortest``.

    * ``holds``: no run broke the invariant, and every run came to an end.
    * ``schedules``: how many runs were made; ``violations``: how many of them broke the
      invariant; ``broken``: how many, by the problem; ``undecided``: how many were broken off, by
      the reason, so that nobody knows whether they hold.
    * ``complete``: every order was run; otherwise there are ``at_least`` so many.
    * ``verdict``: "broken" by a run; "undecided" where runs were broken off or left out; "holds".
    * ``shortest``: of the runs that broke the invariant, the one with the fewest faults, then the
      fewest steps, then the fewest changes of client; if there is none, of the runs that were
      broken off; of a replay, its run. None when it holds.
    * ``faults``: how many runs had a fault, by its kind; ``absent``: the kinds that were allowed
      and never came. ``excused``: in how many runs a client raised what it may raise, by the class.
    * ``sends_time``: the clients that sent a time of their own clock, where no ``clock_jumps`` are
      allowed.
    * ``waits``: of each client, how often it has slept or waited in vain in one run, at most.
    * ``seconds``: how long the exploration took.
    * ``settings``: what was explored, for ``play``; None of a replay.

    ``assert explore(…)`` passes when the story holds and is complete; otherwise its error says
    why not.
    """

    schedules: int
    at_least: int
    complete: bool
    seconds: float
    broken: Counter[str] = field(default_factory=Counter)
    shortest: Timeline | None = None
    undecided: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    absent: tuple[str, ...] = ()
    excused: Counter[str] = field(default_factory=Counter)
    sends_time: tuple[str, ...] = ()
    waits: Counter[str] = field(default_factory=Counter)
    settings: Settings | None = field(default=None, repr=False, compare=False)

    @property
    def violations(self) -> int:
        return sum(self.broken.values())

    @property
    def holds(self) -> bool:
        return not self.broken and not self.undecided

    @property
    def verdict(self) -> str:
        if self.broken:
            return "broken"
        return "holds" if self.complete and not self.undecided else "undecided"

    @property
    def schedule(self) -> str | None:
        """The choices of ``shortest``, for ``replay``."""
        return None if self.shortest is None else self.shortest.schedule

    @property
    def summary(self) -> str:
        """One line."""
        more = "" if self.complete else f" (of at least {self.at_least:,})"
        if self.schedules == 1 and self.complete:
            return f"{self.verdict} in the only schedule"
        runs = f"{self.schedules:,} schedule{'s' * (self.schedules != 1)}{more}"
        if self.holds:
            return f"holds in all of {runs}" if self.complete else f"held in {runs}"
        count = self.violations or sum(self.undecided.values())
        return f"{self.verdict} in {count:,} of {runs}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the runs: a line each."""
        found = []
        if self.faults:
            found.append("faults: " + _counted(self.faults))
        for kind in self.absent:
            found.append(f"warning: {kind} allowed, but no schedule had one: {_NEEDED[kind]}")
        if self.excused:
            found.append(f"errors that clients may raise: {_counted(self.excused)}")
        if self.sends_time:
            found.append(f"hint: {', '.join(self.sends_time)}: {_FROZEN}")
        if self.broken and self.undecided:
            found.append(f"undecided: {_counted(self.undecided)}")
        if self.undecided:
            found.append(_DECIDES)
        polls = [f"{who} waits {count} times" for who, count in self.waits.items() if count > 2]
        if polls and (self.undecided or not self.complete or self.schedules >= _MANY):
            found.append(f"polling: {', '.join(polls)} {_BOUND}")
        return tuple(found)

    def play(self, *, title: str = TITLE, ends: int = MOST_ENDS) -> Game:
        """A game: the reader chooses what happens next, and the keys and replies follow.

        The exploration is made once more, and what happens is recorded, ``ends`` runs at most; the
        shortest run is always among them. With ``reduce`` the game has all orders all the same.

        Raises InvalidArgument for the story of a replay, Nondeterministic when the functions do
        not do now what they did before, and what ``explore`` raises.
        """
        if self.settings is None:
            raise InvalidArgument("a replay is one run; a game needs the story of explore")
        explored = Explored(
            schedules=self.schedules,
            broken=self.violations,
            holds=self.holds and self.complete,
            complete=self.complete,
            reduced=self.settings.reduce,
        )
        schedule = self.schedule if self.broken else None
        return game_of(self.settings, explored, schedule=schedule, title=title, ends=ends)

    def save_game(self, path: str | Path, *, title: str = TITLE, ends: int = MOST_ENDS) -> Game:
        """Write the game's page, one file that needs nothing else. See ``play``."""
        game = self.play(title=title, ends=ends)
        game.save(path)
        return game

    def __str__(self) -> str:
        shown = "" if self.shortest is None else f"\n\n{self.shortest}"
        return "\n".join([self.summary, *self.notes]) + shown

    __repr__ = __str__

    def _repr_png_(self) -> tuple[bytes, dict[str, int]] | None:
        return None if self.shortest is None else self.shortest.png(self.summary)

    def __bool__(self) -> bool:
        __tracebackhide__ = True  # pytest shows the assert, not this
        if not self.holds:
            raise Violated(str(self))
        if not self.complete:
            raise Violated(
                f"undecided: {self.summary}, and not complete: allow more max_schedules or "
                "max_seconds, or set reduce=True; story.holds does not ask whether it is complete"
                + "".join(f"\n{note}" for note in self.notes if note.startswith("polling"))
            )
        return True
