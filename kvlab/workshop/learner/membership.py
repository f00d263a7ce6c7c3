"""A participant's side of ``kvlab room``: join, send what is new in the log, learn what is open.

The events of the log are numbered by their lines. The room says which number it wants next, so a
lost connection loses nothing and nothing counts twice. Nothing but these events is sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from kvlab.errors import KvlabError
from kvlab.workshop.learner.progress import Event, log_of
from kvlab.workshop.workbook import WorkingCopy

FILE = ".kvlab-room.json"
BATCH = 100
_SECONDS = 2.0
_LONGEST = 30.0
_TIMEOUT = 10.0


class RoomRefused(KvlabError):
    """The room said no; ``status`` is the HTTP status."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"the room says: {words}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Membership:
    """Where a participant takes part, and as whom.

    ``opened``: what the trainer has opened. ``away``: the lab runs without the room now.
    """

    address: str
    code: str
    name: str
    secret: str
    opened: tuple[str, ...] = ()
    away: bool = False

    def may_open(self, exercise: str, rung: int) -> bool:
        """Whether the trainer has opened this rung of the hints; rung 4 is the solution."""
        what = "solution" if rung > 3 else "hints"
        return self.away or f"{what}-{exercise}" in self.opened


def membership_of(copy: WorkingCopy) -> Membership | None:
    """What is kept in a working copy; None when it takes part in no room."""
    file = copy.folder / FILE
    if not file.is_file():
        return None
    kept = json.loads(file.read_text(encoding="utf-8"))
    return Membership(**kept | {"opened": tuple(kept["opened"])})


def membership(copy: WorkingCopy, room: str, name: str) -> Membership:
    """The membership of this working copy in a room, ``http://HOST:PORT/CODE``; kept from now on.

    The same room and name have the same secret again. Raises KvlabError for an address without a
    code.
    """
    parts = urlsplit(room)
    code = parts.path.strip("/").upper()
    if parts.scheme not in ("http", "https") or not parts.netloc or not code.isalnum():
        raise KvlabError(f"--room must be http://HOST:PORT/CODE, not {room!r:.80}")
    address = f"{parts.scheme}://{parts.netloc}"
    before = membership_of(copy)
    new = Membership(address, code, name, secrets.token_hex(16))
    if before and (before.address, before.code, before.name) == (address, code, name):
        new = replace(before, away=False)
    _keep(copy, new)
    return new


def leave(copy: WorkingCopy) -> None:
    """The copy goes on without its room: hints and solutions are the learner's own affair again.

    The secret stays, so that the same name can come back.
    """
    if member := membership_of(copy):
        _keep(copy, replace(member, away=True))


def _keep(copy: WorkingCopy, member: Membership) -> None:
    draft = copy.folder / f"{FILE}.{os.getpid()}"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(member)), encoding="utf-8")
    draft.replace(copy.folder / FILE)


@dataclass(slots=True)
class Line:
    """The connection of one participant to the room."""

    member: Membership
    token: str = ""
    wanted: int = 0
    server: Mapping[str, str] | None = None

    def join(self) -> None:
        """Raises RoomRefused for a wrong code or a name that is taken, OSError without a room."""
        member = self.member
        facts = {"code": member.code, "name": member.name, "secret": member.secret}
        said = self._post("join", facts)
        self.token, self.server = str(said["token"]), said.get("server")

    @property
    def environment(self) -> dict[str, str]:
        """For the kernels: the one server of the room, where the room has one."""
        if not self.server:
            return {}
        url, prefix = self.server["url"], self.server["prefix"]
        return {"KVLAB_URL": url, "KVLAB_PREFIX": prefix, "KVLAB_ALLOW_REMOTE": "1"}

    def exchange(self, events: Sequence[Event]) -> Mapping[str, Any]:
        """Send what the room does not know of ``events``; what the room answered at last."""
        while True:
            sent = events[self.wanted : self.wanted + BATCH]
            said = self._post("events", {"first": self.wanted, "events": sent})
            before, self.wanted = self.wanted, int(said["next"])
            if self.wanted >= len(events) or self.wanted == before:
                return said

    def _post(self, path: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.member.address}/{path}",
            json.dumps(facts).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
                said: dict[str, Any] = json.load(answer)
                return said
        except urllib.error.HTTPError as problem:
            try:
                words = json.load(problem)["detail"]
            except (ValueError, KeyError, TypeError):
                words = f"status {problem.code}"
            raise RoomRefused(problem.code, str(words)) from None


def follow(copy: WorkingCopy, line: Line, ended: threading.Event) -> None:
    """Keep the room up to date until ``ended``. A lost one is tried again, ever more rarely."""
    pause = _SECONDS
    while not ended.wait(pause):
        try:
            said = line.exchange(log_of(copy).events())
        except (OSError, RoomRefused, ValueError, KeyError) as problem:
            pause = min(pause * 2, _LONGEST)
            if isinstance(problem, RoomRefused) and problem.status == 401:
                with contextlib.suppress(OSError, KvlabError):
                    line.join()  # the room has begun anew
            continue
        pause = _SECONDS
        opened = tuple(map(str, said["open"]))
        if opened != line.member.opened:
            line.member = replace(line.member, opened=opened)
            _keep(copy, line.member)


def taking_part(copy: WorkingCopy, room: str, name: str) -> Line:
    """Join a room and keep it up to date in a thread, as long as this process lives.

    Raises KvlabError when the room refuses; without an answer the thread tries again.
    """
    line = Line(membership(copy, room, name))
    with contextlib.suppress(OSError):
        line.join()
    never = threading.Event()
    threading.Thread(target=follow, args=(copy, line, never), daemon=True, name="room").start()
    return line
