"""What can happen next in a run. A choice is written as a token:

0         client 0 goes on: its next command, or what it waited for
x0        client 0 crashes: it stops for good, before its next command
r0 q0     client 0 sends its next command, and the reply is lost, or the request
t0        the blocking command of client 0 times out
j0        client 0 reads its clock, which has jumped (j0:2 by the third of the jumps given)
l0        client 0 reads its clock; written only where client 0 reads it again at once, and j0
e:key     the key's TTL ends
f         the server forgets its scripts (SCRIPT FLUSH)
p2        a failover: a replica is promoted that has not got the last 2 writes
w0        client 0 sends WAIT, and is told 0: no replica has got its writes in time
q0        after a failover: client 0 sends on a connection that is closed, and is told so too late
"""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import quote

Kind = Literal[
    "go",
    "crash",
    "lose reply",
    "lose request",
    "time out",
    "wait in vain",
    "look",
    "jump",
    "expire",
    "flush",
    "fail over",
]
FAULT_NAMES = {
    "crash": "crashes",
    "lose reply": "lost_replies",
    "lose request": "lost_requests",
    "expire": "expiries",
    "flush": "script_flushes",
    "fail over": "failovers",
    "wait in vain": "failovers",
    "jump": "clock_jumps",
}
"""The kinds that are faults, and the name by which each is allowed."""
_LETTERS = {
    "go": "",
    "crash": "x",
    "lose reply": "r",
    "lose request": "q",
    "time out": "t",
    "wait in vain": "w",
    "look": "l",
}


class Choice(NamedTuple):
    """One thing that may happen next. ``client`` is None for what happens to the server.

    ``lost``: how many writes a failover loses.
    """

    kind: Kind
    client: int | None = None
    key: bytes = b""
    jump: int = 0
    lost: int = 0

    def __str__(self) -> str:
        if self.kind == "expire":
            return "e:" + quote(self.key, safe=":{}/@,;+*!'()[]|<>=&?$")
        if self.kind == "flush":
            return "f"
        if self.kind == "fail over":
            return f"p{self.lost}"
        if self.kind == "jump":
            return f"j{self.client}" + (f":{self.jump}" if self.jump else "")
        return f"{_LETTERS[self.kind]}{self.client}"

    @property
    def is_fault(self) -> bool:
        return self.kind in FAULT_NAMES
