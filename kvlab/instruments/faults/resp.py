"""The part of the Redis serialization protocol (RESP2 and RESP3) that is needed to count messages.

Nothing is decoded. The two scanners cut a byte stream into whole commands and whole replies, and
keep an incomplete rest until more bytes arrive.
"""

from __future__ import annotations

from typing import NamedTuple

LENGTH_PREFIXED = b"$=!"
CONTAINERS = {0x2A: 1, 0x7E: 1, 0x3E: 1, 0x25: 2}  # array, set, push; a map counts in pairs
ATTRIBUTE = 0x7C
PUSH = 0x3E

# What a client sends by itself when it connects.
HANDSHAKE = frozenset({"HELLO", "AUTH", "CLIENT", "SELECT", "READONLY"})


def value_end(data: bytes | bytearray, start: int) -> int:
    """Index of the first byte after the value at ``start``; -1 while the value is incomplete."""
    wanted, at = 1, start
    while wanted:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return -1
        kind, head, at = data[at], bytes(data[at + 1 : line_end]), line_end + 2
        wanted -= 1
        if kind in LENGTH_PREFIXED:
            if (length := int(head)) >= 0:
                at += length + 2
        elif kind in CONTAINERS:
            wanted += max(int(head), 0) * CONTAINERS[kind]
        elif kind == ATTRIBUTE:  # comes before the value that it describes
            wanted += int(head) * 2 + 1
        if at > len(data):
            return -1
    return at


def command_name(raw: bytes | bytearray) -> str:
    """Upper-case first word of one packed command (or of an inline one)."""
    if raw[:1] != b"*":
        words = bytes(raw).split()
        return words[0].decode("latin-1").upper() if words else ""
    size_at = raw.index(b"\r\n") + 2
    name_at = raw.index(b"\r\n", size_at) + 2
    length = int(raw[size_at + 1 : name_at - 2])
    return bytes(raw[name_at : name_at + length]).decode("latin-1").upper()


class Command(NamedTuple):
    """One whole command as it stood on the wire."""

    name: str
    raw: bytes


class Commands:
    """Cuts a client's bytes into commands."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Command]:
        """The commands that ``data`` completes."""
        return [Command(command_name(raw), raw) for raw in _cut(self._rest, data, inline=True)]


class Replies:
    """Cuts a server's bytes into values."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The replies and pushes that ``data`` completes."""
        return _cut(self._rest, data, inline=False)


def is_push(raw: bytes) -> bool:
    """A RESP3 push answers no command."""
    return raw[:1] == b">"


def _cut(rest: bytearray, data: bytes, *, inline: bool) -> list[bytes]:
    rest += data
    whole: list[bytes] = []
    at = 0
    while at < len(rest):
        if inline and rest[at] != 0x2A:
            newline = rest.find(b"\n", at)
            end = newline + 1 if newline >= 0 else -1
        else:
            end = value_end(rest, at)
        if end < 0:
            break
        whole.append(bytes(rest[at:end]))
        at = end
    del rest[:at]
    return whole
