"""The settings of the sample app, read from the environment and checked before the app serves.

    KVLAB_APP_ALGORITHM        fixed-window, sliding-log, sliding-counter or token-bucket
    KVLAB_APP_LIMIT            units of work a window and client address
    KVLAB_APP_WINDOW           the window, in seconds
    KVLAB_APP_OUTAGE           open or closed: whether everybody or nobody works while the
                               store gives no answer
    KVLAB_APP_LOGINS           log-ins of one user in a minute
    KVLAB_APP_HOSTS            host names, separated by commas, that the app answers to besides
                               localhost and every address; a page of another name, which an
                               attacker lets point at this app, gets 400
    KVLAB_APP_TRUSTED_PROXIES  addresses or networks, separated by commas, whose
                               X-Forwarded-For the app believes
    KVLAB_APP_PREFIX           the namespace of the app's keys; without it, the part "app" of the
                               default namespace (KVLAB_PREFIX)
    KVLAB_APP_TIMEOUT          seconds to wait for the store
    KVLAB_APP_DATABASE         an SQLAlchemy URL; without it, the app makes a SQLite file and
                               removes the file on exit

The store is the workbook's: KVLAB_URL, or the embedded server.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kvlab import FixedWindow, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.core.key import checked_prefix
from kvlab.core.settings import default_prefix
from kvlab.errors import InvalidArgument
from kvlab.rate_limiting.client_address import Network

PREFIX = "KVLAB_APP_"
DATABASE = PREFIX + "DATABASE"
"""The variable with the URL of the database."""

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
    "LOGINS": "10",
    "HOSTS": "",
    "TRUSTED_PROXIES": "",
    "PREFIX": "",
    "TIMEOUT": "1",
    "DATABASE": "",
}


@dataclass(frozen=True, slots=True)
class AppSettings:
    """Checked settings. ``database`` may hold a password: ``repr`` leaves it out."""

    limiter: Limiter
    logins: SlidingWindowCounter
    hosts: frozenset[str]
    trusted_proxies: tuple[Network, ...]
    prefix: str
    timeout: float
    database: str | None = field(repr=False)


def read_settings(environ: Mapping[str, str]) -> AppSettings:
    """The settings in an environment.

    Raises InvalidArgument, which names the variable, for a value out of range, and for a variable
    with our prefix that does not exist: a typing error must not go unnoticed.
    """
    given = {n.removeprefix(PREFIX): environ[n] for n in environ if n.startswith(PREFIX)}
    if unknown := sorted(given.keys() - DEFAULTS.keys()):
        known = ", ".join(PREFIX + name for name in DEFAULTS)
        raise InvalidArgument(f"there is no {PREFIX}{unknown[0]}; there are {known}")
    text = DEFAULTS | {name: value.strip() for name, value in given.items() if value.strip()}
    if text["ALGORITHM"] not in LIMITERS:
        raise _wrong("ALGORITHM", f"must be one of {', '.join(LIMITERS)}", text["ALGORITHM"])
    if text["OUTAGE"] not in ("open", "closed"):
        raise _wrong("OUTAGE", "must be open or closed", text["OUTAGE"])
    timeout = _number("TIMEOUT", text["TIMEOUT"])
    if not 0.01 <= timeout <= 60:
        raise _wrong("TIMEOUT", "must be from 0.01 to 60 seconds", text["TIMEOUT"])
    return AppSettings(
        _limiter(text),
        _logins(text["LOGINS"]),
        frozenset(host.strip().lower() for host in text["HOSTS"].split(",") if host.strip()),
        _proxies(text["TRUSTED_PROXIES"]),
        _prefix(text["PREFIX"] or f"{default_prefix()}app"),
        timeout,
        text["DATABASE"] or None,
    )


def _logins(text: str) -> SlidingWindowCounter:
    try:
        return SlidingWindowCounter("log-ins", _whole("LOGINS", text), 60)
    except InvalidArgument as problem:
        raise InvalidArgument(f"{PREFIX}LOGINS: {problem}") from None


def _limiter(text: Mapping[str, str]) -> Limiter:
    limit = _whole("LIMIT", text["LIMIT"])
    window = _number("WINDOW", text["WINDOW"])
    try:
        limiter: Limiter = LIMITERS[text["ALGORITHM"]]("work", limit, window, outage=text["OUTAGE"])
    except InvalidArgument as problem:
        raise InvalidArgument(f"{PREFIX}LIMIT, {PREFIX}WINDOW: {problem}") from None
    return limiter


def _proxies(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(one.strip()) for one in text.split(",") if one.strip())
    except ValueError as problem:
        raise InvalidArgument(
            f"{PREFIX}TRUSTED_PROXIES must be addresses or networks, separated by commas: {problem}"
        ) from None


def _prefix(text: str) -> str:
    try:
        return checked_prefix(text)
    except InvalidArgument as problem:
        raise InvalidArgument(f"{PREFIX}PREFIX: {problem}") from None


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise _wrong(name, "must be a whole number", text) from None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _wrong(name, "must be a number", text) from None


def _wrong(name: str, must: str, value: str) -> InvalidArgument:
    return InvalidArgument(f"{PREFIX}{name} {must}, not {value!r:.80}")
