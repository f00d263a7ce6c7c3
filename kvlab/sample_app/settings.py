"""What the environment tells the sample app, checked before it serves.

    KVLAB_APP_ALGORITHM        fixed-window, sliding-log, sliding-counter or token-bucket
    KVLAB_APP_LIMIT            units of work a window and client address
    KVLAB_APP_WINDOW           the window, in seconds
    KVLAB_APP_OUTAGE           open or closed: who works while the store gives no answer
    KVLAB_APP_TRUSTED_PROXIES  addresses or networks, with commas; of others X-Forwarded-For
                               is not read
    KVLAB_APP_PREFIX           the namespace of the app's keys
    KVLAB_APP_TIMEOUT          seconds to wait for the store
    KVLAB_APP_DATABASE         an SQLAlchemy URL; without it a SQLite file that ends with the app

The store is that of the whole workbook: KVLAB_URL, or the embedded server.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvlab import FixedWindow, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.core.key import checked_prefix
from kvlab.errors import InvalidArgument
from kvlab.rate_limiting.client_address import Network

BEGINS = "KVLAB_APP_"

Limiter = FixedWindow | SlidingWindowCounter | SlidingWindowLog | TokenBucket
LIMITERS: dict[str, Any] = {
    "fixed-window": FixedWindow,
    "sliding-log": SlidingWindowLog,
    "sliding-counter": SlidingWindowCounter,
    "token-bucket": TokenBucket,
}
DEFAULTS = {
    "ALGORITHM": "sliding-log",
    "LIMIT": "10",
    "WINDOW": "60",
    "OUTAGE": "closed",
    "TRUSTED_PROXIES": "",
    "PREFIX": "kvlab:app",
    "TIMEOUT": "1",
    "DATABASE": "",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings, usable as they are. ``database`` may hold a password: it is not shown."""

    limiter: Limiter
    trusted_proxies: tuple[Network, ...]
    prefix: str
    timeout: float
    database: str | None = field(repr=False)


def read(environ: Mapping[str, str]) -> Settings:
    """The settings of an environment.

    Raises InvalidArgument, which names the variable, for a value out of range and for a variable
    of our name that does not exist: a typing error is heard.
    """
    given = {name[len(BEGINS) :]: environ[name] for name in environ if name.startswith(BEGINS)}
    if unknown := sorted(given.keys() - DEFAULTS.keys()):
        known = ", ".join(BEGINS + name for name in DEFAULTS)
        raise InvalidArgument(f"there is no {BEGINS}{unknown[0]}; there are {known}")
    text = DEFAULTS | {name: value.strip() for name, value in given.items() if value.strip()}
    if text["ALGORITHM"] not in LIMITERS:
        raise _wrong("ALGORITHM", f"must be one of {', '.join(LIMITERS)}", text["ALGORITHM"])
    if text["OUTAGE"] not in ("open", "closed"):
        raise _wrong("OUTAGE", "must be open or closed", text["OUTAGE"])
    timeout = _number("TIMEOUT", text["TIMEOUT"])
    if not 0.01 <= timeout <= 60:
        raise _wrong("TIMEOUT", "must be from 0.01 to 60 seconds", text["TIMEOUT"])
    return Settings(
        _limiter(text),
        _proxies(text["TRUSTED_PROXIES"]),
        _prefix(text["PREFIX"]),
        timeout,
        text["DATABASE"] or None,
    )


def _limiter(text: Mapping[str, str]) -> Limiter:
    try:
        limit = int(text["LIMIT"])
    except ValueError:
        raise _wrong("LIMIT", "must be a whole number", text["LIMIT"]) from None
    window = _number("WINDOW", text["WINDOW"])
    try:
        limiter: Limiter = LIMITERS[text["ALGORITHM"]]("work", limit, window, outage=text["OUTAGE"])
    except InvalidArgument as problem:
        raise InvalidArgument(f"{BEGINS}LIMIT, {BEGINS}WINDOW: {problem}") from None
    return limiter


def _proxies(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())
    except ValueError as problem:
        raise InvalidArgument(
            f"{BEGINS}TRUSTED_PROXIES must be addresses or networks, with commas: {problem}"
        ) from None


def _prefix(text: str) -> str:
    try:
        return checked_prefix(text)
    except InvalidArgument as problem:
        raise InvalidArgument(f"{BEGINS}PREFIX: {problem}") from None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _wrong(name, "must be a number", text) from None


def _wrong(name: str, must: str, value: str) -> InvalidArgument:
    return InvalidArgument(f"{BEGINS}{name} {must}, not {value!r:.80}")
