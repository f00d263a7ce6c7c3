"""Small objects against which histories are judged: a register, a counter, a mutex."""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar

from kvlab.instruments.judges.models import unknown_operation


@dataclass(frozen=True, slots=True)
class Register:
    """``read()`` → value, ``write(value)``, ``swap(expected, value)`` → whether it was so."""

    reads: ClassVar[Collection[str]] = ("read",)
    value: Hashable = None

    def start(self) -> Hashable:
        return self.value

    def apply(self, state: Any, do: str, arguments: tuple[Any, ...]) -> tuple[Hashable, Any]:
        match do, arguments:
            case "read", ():
                return state, state
            case "write", (value,):
                return value, None
            case "swap", (expected, value):
                return (value, True) if state == expected else (state, False)
        raise unknown_operation(do, arguments)


@dataclass(frozen=True, slots=True)
class Counter:
    """``add(n)`` → the sum, ``read()`` → the sum."""

    reads: ClassVar[Collection[str]] = ("read",)

    def start(self) -> int:
        return 0

    def apply(self, state: int, do: str, arguments: tuple[Any, ...]) -> tuple[int, Any]:
        match do, arguments:
            case "read", ():
                return state, state
            case "add", (amount,):
                return state + amount, state + amount
        raise unknown_operation(do, arguments)


@dataclass(frozen=True, slots=True)
class Mutex:
    """``acquire(who)`` → whether it was free, ``release(who)`` → whether it was theirs."""

    reads: ClassVar[Collection[str]] = ()

    def start(self) -> None:
        return None

    def apply(self, state: Any, do: str, arguments: tuple[Any, ...]) -> tuple[Hashable, Any]:
        match do, arguments:
            case "acquire", (who,):
                return (who, True) if state is None else (state, False)
            case "release", (who,):
                return (None, True) if state == who else (state, False)
        raise unknown_operation(do, arguments)
