"""An operation is data.

An :class:`Op` is a command or a Lua script with its arguments, with the decoding of its reply, and
with the answer to "is a repetition harmless?". A flow (``kvlab.core.flow``) is for what takes
several round trips. Nothing here uses a network, a clock or random numbers: an executor
(``kvlab.Kv``, ``kvlab.AsyncKv``) does.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
import shlex
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

from kvlab.core import checks
from kvlab.core.checks import WIDEST
from kvlab.core.key import Key, segment
from kvlab.errors import InvalidArgument, NotRunYet

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
P = ParamSpec("P")


@dataclass(frozen=True)
class Script:
    """A Lua script. People read its ``name``; the server knows its ``sha``."""

    name: str
    source: str = field(repr=False)
    sha: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.text("name", self.name)
        checks.text("source", self.source, None)
        sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", sha)

    @classmethod
    @functools.cache
    def load(cls, name: str) -> Script:
        """The script ``kvlab/<name>.lua``; ``name`` is ``<pattern>/<verb>``."""
        file = resources.files("kvlab").joinpath(f"{name}.lua")
        return cls(name, file.read_text(encoding="utf-8"))


Arg = Key | str | bytes | int | float
Raw = Any
"""A reply in RESP2's shapes, undecoded: bytes, int, None, or a list of these."""


def milliseconds(duration: float) -> int:
    """A duration in seconds as the server takes it: whole milliseconds, rounded up, at least 1."""
    return max(1, math.ceil(round(duration * 1000, 6)))


def _raw(reply: Raw) -> Any:
    return reply


_STATEFUL = re.compile(
    r"(ASKING|AUTH|DISCARD|EXEC|HELLO|MONITOR|MULTI|P?SYNC|QUIT|READONLY|READWRITE|RESET|SELECT|"
    r"[PS]?(UN)?SUBSCRIBE|(UN)?WATCH|SCRIPT\s+DEBUG|CLIENT\s+(CACHING|CAPA|IMPORT-SOURCE|NO-EVICT|"
    r"NO-TOUCH|REPLY|SETINFO|SETNAME|TRACKING))(\s|$)",
    re.IGNORECASE,
)


@functools.lru_cache(maxsize=1000)
def _check_command(words: str) -> bool:
    """Refuse a word that is no command, or changes its connection; True for a command whose
    first argument says more."""
    if not words.strip() or not words.isascii() or not words.strip().isprintable():
        raise InvalidArgument(f"command must be its name or a Script, not {checks.shown(words)}")
    if _STATEFUL.match(words.lstrip()):
        raise InvalidArgument(
            f"{words} changes a connection that other callers use next; use kv.client"
        )
    return words.strip().upper() in ("CLIENT", "SCRIPT")


def _checked_args(args: tuple[Arg, ...]) -> tuple[tuple[Arg, ...], bool]:
    """The arguments as they are sent, and whether a key comes after an argument of another kind."""
    keys, misplaced = 0, False
    for i, arg in enumerate(args):
        kind = type(arg)
        if kind is str or kind is Key:
            text: str = arg  # type: ignore[assignment]
            if kind is Key:
                text, misplaced = arg.name, misplaced or i > keys  # type: ignore[union-attr]
                keys += 1
            try:
                text.isascii() or text.encode()
            except UnicodeEncodeError as problem:
                raise InvalidArgument(f"text must be valid Unicode: {problem}") from None
        elif kind is int:
            if not -WIDEST < arg < WIDEST:  # type: ignore[operator]
                raise InvalidArgument("an int must have at most 2048 bits")
        elif kind is not float and kind is not bytes:
            return _checked_args(tuple(map(_plain, args)))
    return args, misplaced


def _plain(arg: Any) -> Arg:
    """The argument without its subclass: of an enum its value, of a number of NumPy an int."""
    if type(arg) in (Key, str, bytes, int, float):
        return arg  # type: ignore[no-any-return]
    if isinstance(arg, bytes):
        return bytes(arg)
    if isinstance(arg, Key):
        return Key(arg.name)
    for plain in (checks.identifier, partial(checks.real, low=-math.inf, infinite=True)):
        with suppress(InvalidArgument):
            return plain("argument", arg)
    kinds = "Key, str, bytes, int, float or UUID"
    raise InvalidArgument(f"an argument must be {kinds}, not {checks.shown(arg)}")


@dataclass(frozen=True, slots=True, init=False)
class Op(Generic[T_co]):
    """One command or one script, with everything that an executor needs to run it.

    ``Op("SET", Key("greeting"), "hi", "EX", 5)``; ``Op(script, Key("a"), Key("b"), 10)``: the keys
    of a script come first.

    * ``decode`` makes the result of the raw reply; without it the raw reply is the result.
    * ``idempotent``: two runs leave and answer the same as one run, so an executor retries the op
      when its answer is lost. (An op that a demoted primary refused has not run: any such op is
      retried once, on a new connection.)
    * ``blocking``: the server may delay the answer for this many seconds (``math.inf``: for ever);
      None for a command that answers at once.
    * ``fallback`` makes the result of the error when the server cannot be reached, does not
      answer, or refuses for now (:class:`~kvlab.errors.Outage`); without it the error is raised.

    Raises :class:`~kvlab.errors.InvalidArgument` for an argument that cannot be sent, and for a
    command that changes its connection (SELECT, MULTI, SUBSCRIBE …).
    """

    command: str | Script
    args: tuple[Arg, ...]
    decode: Callable[[Raw], T_co]
    idempotent: bool
    blocking: float | None
    fallback: Callable[[Exception], T_co] | None

    def __init__(
        self,
        command: str | Script,
        *args: Arg,
        decode: Callable[[Raw], T_co] = _raw,
        idempotent: bool = False,
        blocking: float | None = None,
        fallback: Callable[[Exception], T_co] | None = None,
    ) -> None:
        if not callable(decode):
            checks.function("decode", decode)
        if idempotent is not True and idempotent is not False:
            checks.boolean("idempotent", idempotent)
        if fallback is not None and not callable(fallback):
            checks.function("fallback", fallback)
        if blocking is not None:
            blocking = checks.seconds("blocking", blocking, 0, infinite=True)
        args, misplaced = _checked_args(args)
        if type(command) is not str and not isinstance(command, Script):
            checks.instance("command", command, str, "its name or a Script")
        _put_command(self, command)
        _put_args(self, args)
        _put_decode(self, decode)
        _put_idempotent(self, idempotent)
        _put_blocking(self, blocking)
        _put_fallback(self, fallback)
        if isinstance(command, str):
            if _check_command(command) and args:
                what = args[0]
                said = what.decode("latin-1") if isinstance(what, bytes) else str(what)
                word, _, _ = said.partition("\0")  # a server may read no further
                _check_command(f"{command.strip()} {segment(word)}")
        elif misplaced:
            said = checks.shown(args)
            raise InvalidArgument(f"keys of a script must come before its arguments, not {said}")

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple(arg for arg in self.args if isinstance(arg, Key))

    def __iter__(self) -> Generator[Op[Any], Any, T_co]:
        # In a flow: `value = yield from op`.
        value: T_co = yield self
        return value

    def __bool__(self) -> NoReturn:
        raise NotRunYet(f"this op has not run yet: kv.run(op)  [{self}]")

    def __str__(self) -> str:
        """The op as a redis-cli line, without the prefix."""
        if isinstance(self.command, Script):
            keys = [_shell(k) for k in self.keys]
            argv = [_shell(a) for a in self.args[len(keys) :]]
            path = f"kvlab/{self.command.name}.lua"
            return " ".join(["redis-cli", "--eval", path, *keys, ",", *argv])
        return " ".join(["redis-cli", self.command, *map(_shell, self.args)])


# Quicker than object.__setattr__, which a frozen dataclass uses.
_put_command, _put_args, _put_decode, _put_idempotent, _put_blocking, _put_fallback = (
    getattr(Op, name).__set__ for name in Op.__slots__
)


def with_key(op: Op[T], key: Key) -> Op[T]:
    """The op with another first key, made in half the time of a new op.

    For a pattern that makes an op once, at its own construction, and names a key for each call.
    """
    args, _ = _checked_args((key,))
    other: Op[T] = object.__new__(Op)
    _put_command(other, op.command)
    _put_args(other, args + op.args[1:])
    _put_decode(other, op.decode)
    _put_idempotent(other, op.idempotent)
    _put_blocking(other, op.blocking)
    _put_fallback(other, op.fallback)
    return other


def _shell(arg: Arg) -> str:
    text = arg.decode("latin-1") if isinstance(arg, bytes) else str(arg)
    if text.isprintable() and (text.isascii() or not isinstance(arg, bytes)):
        return shlex.quote(text)
    raw = arg if isinstance(arg, bytes) else text.encode("utf-8", "surrogatepass")
    shown = (chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in raw)
    return f"$'{''.join(shown)}'"
