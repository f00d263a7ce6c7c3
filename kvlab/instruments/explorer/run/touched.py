"""What each step of a run touched, so that the search can tell which steps commute."""

from __future__ import annotations

from collections.abc import Sequence

from kvlab.instruments.explorer.clients.stops import Asleep, Blocked, Command, Local, Sending, Stop
from kvlab.instruments.explorer.run.choices import Choice
from kvlab.instruments.explorer.run.footprints import EVERYTHING, Footprint, Footprints


class TouchedKeys:
    """Follows one run. Without ``footprints`` nobody asks, and every step touches everything."""

    def __init__(self, footprints: Footprints | None, clients: int) -> None:
        self._footprints = footprints
        self._watched = [Footprint()] * clients
        self._changes: int | None = None

    def begin(self) -> None:
        """The run's first step comes next."""
        if self._footprints is not None:
            self._changes = self._footprints.changes()

    def waiting(self, stops: Sequence[Stop]) -> list[Blocked]:
        """The blocking commands that the server has not answered."""
        if self._footprints is None:
            return []
        return [stop for stop in stops if isinstance(stop, Blocked) and not stop.answered()]

    def by_server(self) -> None:
        """A step that no client made may have changed data."""
        if self._footprints is not None:
            self._has_changed()

    def by_client(
        self, choice: Choice, before: Stop, after: Stop, waiting: Sequence[Blocked]
    ) -> Footprint:
        """What a client's step touched, from one stop to the next. A step that changed no data
        only read. ``waiting``: the commands that waited before the step."""
        if self._footprints is None or choice.client is None:
            return EVERYTHING
        touched = self._between(choice, before, after, waiting)
        if isinstance(before, Sending | Blocked):
            self._note_watch(choice.client, before.commands)
        return touched

    def _between(
        self, choice: Choice, before: Stop, after: Stop, waiting: Sequence[Blocked]
    ) -> Footprint:
        footprints = self._footprints
        assert footprints is not None
        assert choice.client is not None
        match before:
            case Local(_, touches, reads):
                return Footprint(reads=touches) if reads else Footprint(writes=touches)
            case Asleep() | Blocked() if choice.kind != "go" or isinstance(before, Asleep):
                return EVERYTHING
            case Sending(commands) if choice.kind in ("go", "lose reply"):
                touched = footprints.of(commands) | self._watched[choice.client]
                if touched.writes and not self._has_changed() and not isinstance(after, Blocked):
                    touched = touched.without_change()
                for stop in waiting:
                    if stop.answered():  # the server has executed this command too
                        touched |= footprints.of(stop.commands)
                return touched
        return Footprint()

    def _has_changed(self) -> bool:
        """Whether any data have changed since this was asked last."""
        assert self._footprints is not None
        before, self._changes = self._changes, self._footprints.changes()
        return before is None or before != self._changes

    def _note_watch(self, client: int, commands: Sequence[Command]) -> None:
        for command in commands:
            name = command[0].upper()
            if name == b"WATCH":
                self._watched[client] |= Footprint(reads=frozenset(command[1:]))
            elif name in (b"EXEC", b"UNWATCH", b"DISCARD"):
                self._watched[client] = Footprint()
