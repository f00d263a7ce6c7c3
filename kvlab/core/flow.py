"""A flow takes several round trips: a generator function that yields ops, calls and waits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NoReturn, overload

from kvlab.core.calls import Waiter
from kvlab.core.checks import function, keep, seconds, shown
from kvlab.core.op import A, B, C, Op, P, T, T_co
from kvlab.errors import InvalidArgument, NotRunYet


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A call of the user's own code, such as a loader; the async executor awaits its result.

    ``name``: what is called; see ``kvlab.core.calls``. ``join``: while a joining call of that name
    is under way in an executor, other callers of the name wait for it and get its result.
    ``then`` makes the result that they get.
    """

    function: Callable[..., T | Awaitable[T]]
    args: tuple[Any, ...] = ()
    name: str | None = None
    join: bool = False
    then: Callable[[Any], T] | None = None

    def __post_init__(self) -> None:
        function("function", self.function)

    def __iter__(self) -> Generator[Call[T], Any, T]:
        value: T = yield self
        return value


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause, in seconds."""

    seconds: float

    def __post_init__(self) -> None:
        keep(self, seconds=seconds("seconds", self.seconds, 0))

    def __iter__(self) -> Generator[Wait, None, None]:
        yield self


@dataclass(frozen=True, slots=True)
class Waiting:
    """The caller waits for somebody else's call of that name from now on."""

    name: str

    def __iter__(self) -> Generator[Waiting, Waiter, Waiter]:
        return (yield self)


@dataclass(frozen=True, slots=True)
class Now:
    """The executor's monotonic clock in seconds, for durations and never for dates."""

    def __iter__(self) -> Generator[Now, float, float]:
        return (yield self)


NOW = Now()
"""In a flow: ``now = yield NOW``, quicker than ``yield from Now()``."""


@overload
def together(a: Op[A], b: Op[B], /) -> Generator[Any, Any, tuple[A, B]]: ...
@overload
def together(a: Op[A], b: Op[B], c: Op[C], /) -> Generator[Any, Any, tuple[A, B, C]]: ...
@overload
def together(*ops: Op[Any]) -> Generator[Any, Any, tuple[Any, ...]]: ...
def together(*ops: Op[Any]) -> Generator[Any, Any, tuple[Any, ...]]:
    """In a flow: ``a, b = yield from together(op_a, op_b)``, one round trip for independent ops."""
    results: tuple[Any, ...] = yield ops
    return results


@dataclass(frozen=True, slots=True)
class Flow(Generic[T_co]):
    """A generator function with its arguments: a value, so it can be run many times."""

    function: Callable[..., Generator[Any, Any, T_co]]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        function("function", self.function)

    def __iter__(self) -> Generator[Any, Any, T_co]:
        return self.function(*self.args, **self.kwargs)

    def __bool__(self) -> NoReturn:
        raise NotRunYet(f"this flow has not run yet: kv.run(flow)  [{self}]")

    def __str__(self) -> str:
        return f"<flow {getattr(self.function, '__qualname__', None) or shown(self.function)}>"


# Quicker than object.__setattr__, which a frozen dataclass uses.
_put_function, _put_args, _put_kwargs = (getattr(Flow, name).__set__ for name in Flow.__slots__)


def flow(function: Callable[P, Generator[Any, Any, T]]) -> Callable[P, Flow[T]]:
    """Make a generator function, usually a method, return a :class:`Flow`."""
    if not inspect.isgeneratorfunction(function):
        raise InvalidArgument(f"a flow must be a generator function, not {shown(function)}")

    @functools.wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> Flow[T]:
        made: Flow[T] = object.__new__(Flow)
        _put_function(made, function)
        _put_args(made, args)
        _put_kwargs(made, kwargs)
        return made

    return make
