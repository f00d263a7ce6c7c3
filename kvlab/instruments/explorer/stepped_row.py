"""A database of one row for explorations: each access to the row is a step of its own.

Outside an exploration the row is a plain object. It counts what a cache in front of it is judged
by: the row's version, and how often the row was read.
"""

from __future__ import annotations

from kvlab.instruments.explorer.clients.client_thread import step


class SteppedRow:
    """``row`` is None when there is none; ``version`` rises with each write and each deletion.

    ``loads`` counts the reads. Give ``reset`` as ``setup`` to an exploration.
    """

    def __init__(self, row: str | None = "v0") -> None:
        self._first = row
        self.reset()

    def reset(self, _: object = None) -> None:
        """As at the beginning: the first row, version 0, no loads."""
        self.row, self.version, self.loads = self._first, 0, 0

    def read(self) -> str | None:
        """What a loader returns."""
        step("SELECT", "the row", reads=True)
        self.loads += 1
        return self.row

    def read_versioned(self) -> tuple[str, int] | None:
        """What the loader of ``WriteThrough.fetch`` returns."""
        row = self.read()
        return None if row is None else (row, self.version)

    def write(self) -> tuple[str, int]:
        """The row becomes "v1", "v2" and so on. Returns the row and its version."""
        step("UPDATE, COMMIT", "the row")
        self.version += 1
        self.row = f"v{self.version}"
        return self.row, self.version

    def delete(self) -> int:
        """Returns the version of the deletion."""
        step("DELETE, COMMIT", "the row")
        self.version += 1
        self.row = None
        return self.version
