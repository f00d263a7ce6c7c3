"""Commands, replies and the state of keys, in the words of a timeline."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import redis

from kvlab.instruments.explorer.clients.stops import Command
from kvlab.instruments.explorer.run.steps import Step, Unfinished
from kvlab.instruments.explorer.shortening import shortened
from kvlab.instruments.explorer.timeline.scripts import SCRIPT_COMMANDS, script_name
from kvlab.instruments.faults.client_gate import ClientCrashed

State = Mapping[str, tuple[str, float | None]]
"""What each key holds, in words, and the seconds that it has left, None for no TTL."""

MAX_KEYS = 100
WHOLE = 10_000  # characters of a value that are compared
WORD, LINE, VALUE, NAME = 32, 72, 72, 40  # characters: argument, command, value, name of a key


def state_of(client: redis.Redis) -> State:
    """Every key of the client's database, ``MAX_KEYS`` of them at most. Three round trips."""
    keys: Any = client.keys("*")
    names: list[bytes] = sorted(keys)[:MAX_KEYS]
    asked = client.pipeline(transaction=False)
    for name in names:
        asked.type(name)
        asked.pttl(name)
    about: list[Any] = asked.execute() if names else []
    kinds = [kind if isinstance(kind, str) else kind.decode() for kind in about[::2]]
    for name, kind in zip(names, kinds, strict=True):
        _ask(asked, name, kind)
    values = asked.execute() if names else []
    return {
        _quoted(printable(name)): (
            _cut(_content(kind, found), WHOLE),
            None if left < 0 else left / 1000,
        )
        for name, kind, left, found in zip(names, kinds, about[1::2], values, strict=True)
    }


def _ask(client: redis.Redis, name: bytes, kind: str) -> None:
    """Ask for what is shown of a key."""
    match kind:
        case "string":
            client.get(name)
        case "hash":
            client.hgetall(name)
        case "list":
            client.lrange(name, 0, 9)
        case "set":
            client.smembers(name)
        case "zset":
            client.zrange(name, 0, 9, withscores=True)
        case _:
            client.exists(name)


def _content(kind: str, found: Any) -> str:
    match kind:
        case "string":
            return _whole(found)
        case "hash":
            return "{" + ", ".join(f"{_whole(k)}: {_whole(v)}" for k, v in found.items()) + "}"
        case "list":
            return "[" + ", ".join(map(_whole, found)) + "]"
        case "set":
            return "{" + ", ".join(map(_whole, sorted(found))) + "}"
        case "zset":
            return "{" + ", ".join(f"{_whole(m)}: {_number(score)}" for m, score in found) + "}"
    return f"a {kind}"


def line_of(step: Step) -> str:
    """A step in one line, without the client's name."""
    request, reply = request_of(step), reply_of(step)
    match step.kind:
        case "crash":
            return "crashes" + (f" before {request}" if request else "")
        case "lose reply":
            return f"{request} → {reply}, and the reply is lost"
        case "lose request":
            return f"{request}, and the request is lost"
        case "time out":
            return f"{request} times out → {reply}"
        case "expire":
            return f"the TTL of {word(step.key, 40)} ends"
        case "flush":
            return "forgets its scripts"
        case "wait in vain":
            return f"{request} → {reply}: no replica has got it"
        case "fail over":
            return step.label
    if not step.commands:
        return step.label
    return f"{request} → {reply}" if step.replies else f"{request} … waits"


def request_of(step: Step) -> str:
    """The commands of a step."""
    commands = step.commands
    words = [_command(command, step.scripts) for command in commands]
    if len(commands) > 2 and commands[0][0].upper() == b"MULTI":
        return f"MULTI {'; '.join(words[1:-1])} EXEC"
    return "; ".join(words)


def reply_of(step: Step) -> str:
    """The replies of a step."""
    replies: Sequence[Any] = step.replies
    if len(replies) > 1 and step.commands[0][0].upper() == b"MULTI":
        replies = replies[-1:]
    return _cut(", ".join(map(_reply, replies)), LINE)


def _command(command: Command, scripts: Mapping[bytes, bytes]) -> str:
    name, rest = command[0].decode("utf-8", "replace").upper(), command[1:]
    if command[0].upper() in SCRIPT_COMMANDS:
        count = int(command[2])
        values = map(word, rest[2 + count :])
        script = script_name(command[1], scripts.get(command[1]))
        return _joined([script, *_keys(rest[2 : 2 + count]), "|", *values])
    if name == "SCRIPT" and rest[0].upper() == b"LOAD":
        return f"SCRIPT LOAD {script_name(rest[1])}"
    return _joined([name, *map(word, rest)])


def _keys(names: Sequence[bytes]) -> list[str]:
    """The keys of a command; of keys after the first, only what differs from its name."""
    shared = names[0][: names[0].rfind(b":") + 1] if names else b""
    return [
        "…" + word(name[len(shared) :])
        if at and shared and name.startswith(shared)
        else word(name, NAME)
        for at, name in enumerate(names)
    ]


def _joined(words: Iterable[str]) -> str:
    return " ".join(words).removesuffix(" |")


def _reply(reply: Any) -> str:
    match reply:
        case None:
            return "nil"
        case BaseException():
            return f"error {reply}"
        case bytes() | str():
            return word(reply)
        case list() | tuple() | set() | frozenset():
            return "[" + ", ".join(map(_reply, reply)) + "]"
        case dict():
            return "{" + ", ".join(f"{_reply(k)}: {_reply(v)}" for k, v in reply.items()) + "}"
        case float():
            return _number(reply)
    return shortened(str(reply))


def _number(score: float) -> str:
    """As the server writes it: 98, not 98.0."""
    return f"{score:.0f}" if score.is_integer() and abs(score) < 1e17 else repr(score)


def word(raw: Any, most: int = WORD) -> str:
    """A short form of a word, quoted where needed."""
    text = shortened(printable(raw))
    if len(text) > most:  # names that are alike differ at their end
        text = f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"
    return _quoted(text)


def _whole(raw: Any) -> str:
    begin = raw[: 4 * WHOLE] if isinstance(raw, bytes | str) else raw  # a character has 4 bytes
    return _quoted(_cut(printable(begin), WHOLE))


def printable(raw: Any) -> str:
    text = raw.decode("utf-8", "backslashreplace") if isinstance(raw, bytes) else str(raw)
    if text.isprintable():
        return text
    return text.translate({ord(c): repr(c)[1:-1] for c in {*text} if not c.isprintable()})


def _quoted(text: str) -> str:
    quote = "'" if '"' in text else '"'
    return text if text and " " not in text else f"{quote}{text}{quote}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def changes(before: State, after: State, matter: Collection[str] = ()) -> list[str]:
    """The keys that have changed, those that ``matter`` first."""
    gone = [f"{named(name)} is gone" for name in before if name not in after]
    changed = sorted(changed_keys(before, after), key=lambda name: name not in matter)
    return gone + [f"{named(name)} = {'  '.join(held(name, before, after))}" for name in changed]


def changed_keys(before: State, after: State) -> list[str]:
    """The keys that hold something else now. A TTL that only ran on has not changed."""
    return [
        name
        for name, (value, left) in sorted(after.items())
        if name not in before or before[name][0] != value or _jumped(before[name][1], left)
    ]


def held(name: str, before: State, after: State) -> tuple[str, str]:
    """What the key holds now, of a long value the part that has changed; and its TTL."""
    value, left = after[name]
    return _about(before.get(name, ("", None))[0], value), _left(left)


def _about(before: str, value: str) -> str:
    """A value; of a long value, the part that has changed."""
    before, value = shortened(before), shortened(value)
    if before == value:  # only its TTL has changed
        return _cut(value, VALUE)
    both = enumerate(zip(before, value, strict=False))
    alike = next((at for at, (old, new) in both if old != new), min(len(before), len(value)))
    at = alike - VALUE // 4
    return _cut(value if at <= 0 or len(value) <= VALUE else "…" + value[at:], VALUE)


def named(key: str) -> str:
    """A key's name; of a long name both ends, since names of related keys differ at the end."""
    key = shortened(key)
    return key if len(key) <= NAME else f"{key[: NAME // 2 - 1]}…{key[-NAME // 2 :]}"


def _jumped(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is not after
    return abs(before - after) > 0.5


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "no TTL"
    return f"TTL {seconds:,.0f} s" if seconds > 9.5 else f"TTL {seconds:.1g} s"


_PRIVATE = re.compile(r"\S*/kvlab-[^\s,;]+")
"""The socket of a private server: another one in each exploration."""


def ending(result: Any) -> str:
    """How a client ended."""
    if isinstance(result, ClientCrashed):
        return "crashed"
    if isinstance(result, Unfinished):
        return "did not end"
    if isinstance(result, BaseException):
        said = _PRIVATE.sub("the server", str(result))
        return _cut(shortened(f"raised {type(result).__name__}: {said}"), 100)
    return _cut(shortened(f"returned {result!r}"), 100)
