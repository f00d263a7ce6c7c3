"""What the packages say of themselves, word for word, of the versions pinned in ``peers``.

A package that is not here says nothing about several clients at once, as far as its README and the
docstring of the class that is driven go. ``unfounded`` looks for the words in what is installed;
what a package says on a page of its own is not looked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
from collections.abc import Iterator
from contextlib import suppress

from kvlab.bench.matrix import Quote

README = "README"

QUOTES = {
    "redis": Quote(
        "Using Redis for locking allows the Lock to be shared across processes and/or machines.",
        "redis.lock",
    ),
    "throttled-py": Quote("Provides thread-safe storage backends", README),
    "pyrate-limiter": Quote(
        "The transition runs as a Lua script, so the read-modify-write is atomic across clients",
        README,
    ),
    "asyncio-redis-rate-limit": Quote("Free of race-conditions (hopefully!)", README),
    "ratelimit-io": Quote(
        "Every process that shares a Redis server shares the limit: fixed window, sliding window "
        "or GCRA, each one atomic Lua script",
        README,
    ),
    "redis-rate-limiters": Quote("make each implementation fully atomic", README),
    "huey": Quote("implement fixed window rate-limit", "huey.api"),
    "walrus": Quote(
        "The lock uses Lua scripts to ensure the atomicity of its operations.", "walrus.lock"
    ),
    "dramatiq": Quote(
        "You can use a concurrent rate limiter of size 1 to get a distributed mutex.",
        "dramatiq.rate_limits.concurrent",
    ),
    "redlock-py": Quote(
        "implements the Redis-based distributed lock manager algorithm",
        README,
    ),
    "python-redis-lock": Quote("Interface targeted to be exactly like `threading.Lock", README),
    "sherlock": Quote("easy-to-use distributed inter-process locks", README),
    "pottery": Quote(
        "`Redlock` is a safe and reliable lock to coordinate access to a resource shared across "
        "threads, processes, and even machines, without a single point of failure.",
        README,
    ),
    "redis-semaphore": Quote("A distributed semaphore and mutex built on Redis.", README),
    "aiocache": Quote("do NOT use this if you need real resource exclusion.", "aiocache.lock"),
    "cashews": Quote(
        "Lock the following function calls until the first one is finished. "
        "This guarantees exactly one function call for given ttl.",
        README,
    ),
    "dogpile.cache": Quote(
        "allows one thread/process to be elected as the creator of a new value, while other "
        "threads/processes continue to return the previous version of that value.",
        "dogpile.lock",
    ),
    "django-redis": Quote(
        "It also supports the Redis ability to create Redis distributed named locks.", README
    ),
    "arq": Quote(
        "pessimistic execution (see below) means arq is great for critical jobs that must be "
        "completed.",
        "https://arq-docs.helpmanual.io",
    ),
    "celery-redbeat": Quote("Prevent accidentally running multiple Beat servers", README),
    "slowapi": Quote(
        "Single and multiple `limit` decorator on endpoint functions to apply limits", README
    ),
    "starsessions": Quote("Destroy session.", "starsessions.session"),
}


def unfounded() -> Iterator[str]:
    """The installed packages whose words do not stand where they are said to stand."""
    for package, quote in QUOTES.items():
        if quote.place.startswith("https:"):
            continue
        with suppress(importlib.metadata.PackageNotFoundError):
            text = str(importlib.metadata.distribution(package).read_text("METADATA"))
            if quote.place != README:
                text = inspect.getsource(importlib.import_module(quote.place))
            if " ".join(quote.words.split()) not in " ".join(text.split()):
                yield package
