"""In an exploration, time and chance belong to the client that asks for them.

The functions of ``time``, ``datetime.now`` and its family are those of the client thread that runs,
also where a module has bound them by name (``from time import time_ns``). ``os.urandom``, and with
it ``secrets`` and ``uuid4``, gives each client the same bytes in every run: a key named after a
token has the same name in each.

Not held: a function that was bound as a default argument or in an object; what is written in C.
"""

from __future__ import annotations

import datetime
import os
import random
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from kvlab.errors import KvlabError
from kvlab.instruments.explorer.clients.client_thread import (
    ClientThread,
    collections_noted,
    current_client,
)

_one_exploration = threading.Lock()
_NOT_SEARCHED = (sys.stdlib_module_names | {"kvlab"}) - {"__main__"}
_INSTALLED = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
_WITHOUT: set[tuple[str, int, int]] = set()
"""Modules that are not searched, and those of installed packages that had bound none of the
functions: the name, the namespace, and how many names were in it. A module that has got more names
is looked at again. A search of all takes 6 ms."""


def _of_client(real: Callable[[], Any], of: Callable[[ClientThread], Any]) -> Callable[[], Any]:
    """The client's function in a client's thread, the real one in any other."""

    def held() -> Any:
        client = current_client()
        if client is None:
            return real()
        caller = sys._getframe(1).f_globals.get("__name__", "")
        client.told_time |= not caller.startswith(("redis.", "kvlab.core."))
        return of(client)

    return held


_real_sleep, _real_urandom = time.sleep, os.urandom


def _sleep(seconds: float) -> None:
    client = current_client()
    if client is None:
        _real_sleep(seconds)
    else:
        client.sleep(seconds)


def _urandom(size: int) -> bytes:
    client = current_client()
    return _real_urandom(size) if client is None else client.random_bytes(size)


class _AsIf(type):
    """Instances of the real class are instances of the one in its place."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, cls.__mro__[1])

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, cls.__mro__[1])


class _Date(datetime.date, metaclass=_AsIf):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _Date.__mro__[1](*args, **kwargs)

    @classmethod
    def today(cls) -> Any:
        return cls.fromtimestamp(time.time())


class _DateTime(datetime.datetime, metaclass=_AsIf):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _DateTime.__mro__[1](*args, **kwargs)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def today(cls) -> Any:
        return cls.fromtimestamp(time.time())

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(datetime.UTC).replace(tzinfo=None)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e6) * 1000


_REPLACED: dict[tuple[Any, str], Any] = {
    (time, "time"): _of_client(time.time, ClientThread.time),
    (time, "time_ns"): _of_client(time.time_ns, lambda client: _nanoseconds(client.time())),
    (time, "sleep"): _sleep,
    (os, "urandom"): _urandom,
    (random, "_urandom"): _urandom,  # `secrets` calls this one
    (datetime, "date"): _Date,
    (datetime, "datetime"): _DateTime,
}
for _name in ("monotonic", "perf_counter"):
    _REPLACED[time, _name] = _of_client(getattr(time, _name), ClientThread.monotonic)
    _REPLACED[time, _name + "_ns"] = _of_client(
        getattr(time, _name + "_ns"), lambda client: _nanoseconds(client.monotonic())
    )


@contextmanager
def clients_own_time() -> Iterator[None]:
    """Put the clients' functions in the place of the real ones.

    Raises KvlabError while another exploration runs in this process: there can be one at a time.
    """
    if not _one_exploration.acquire(blocking=False):
        raise KvlabError("another exploration runs in this process: wait for its end")
    with ExitStack() as ends:
        ends.callback(_one_exploration.release)
        ends.callback(random.setstate, random.getstate())
        ends.enter_context(collections_noted())
        places = [*_bound_by_name(), *_REPLACED]
        for module, name in places:
            ends.callback(setattr, module, name, getattr(module, name))
        news = {id(getattr(module, name)): new for (module, name), new in _REPLACED.items()}
        for module, name in places:
            real = getattr(module, name)
            setattr(module, name, news.get(id(real), real))  # a module can be there twice
        yield


def _bound_by_name() -> Iterator[tuple[Any, str]]:
    """Where modules have bound the real functions, the standard library and our own apart."""
    real = {id(getattr(module, name)) for module, name in _REPLACED}
    for key, module in list(sys.modules.items()):
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict) or (seen := (key, id(names), len(names))) in _WITHOUT:
            continue
        if str(names.get("__name__")).partition(".")[0] in _NOT_SEARCHED:
            _WITHOUT.add(seen)
        elif not real.isdisjoint(map(id, names.values())):
            yield from ((module, name) for name, value in list(names.items()) if id(value) in real)
        elif str(names.get("__file__")).startswith(_INSTALLED):
            _WITHOUT.add(seen)
