"""Options with a number, options that name a server, options that go on to another program."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import typer

from kvlab import Op, connect
from kvlab.core.checks import whole
from kvlab.core.server_url import with_advice
from kvlab.errors import InvalidArgument, KvlabError, ServerRefused, ServerUnavailable

PASSES_OPTIONS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Settings of a command that hands the options that it does not know to another program."""
HIGHEST_PORT = 65_535
_A_PORT = re.compile(r"-P|--([\w.-]*[.-])?port")
"""Such as --port, --ServerApp.port and --master-bind-port; -P is Locust's."""


def number(low: int, high: int | None = None, *, help: str) -> Any:
    """An option whose value is a whole number from ``low`` to ``high``; another is refused."""

    def parsed(given: int | str) -> int:
        try:
            return whole("", _read(given), low, high)
        except InvalidArgument as problem:
            raise typer.BadParameter(str(problem).strip()) from None

    return typer.Option(parser=parsed, metavar="INTEGER", help=help)


def check_answers(url: str, option: str, *, allow_remote: bool | None = None) -> None:
    """Raises KvlabError, with what to do, when the server that an option names does not serve."""
    try:
        with connect(url, allow_remote=allow_remote) as kv:
            kv.run(Op("PING"))
    except (ServerUnavailable, ServerRefused) as problem:
        raise KvlabError(with_advice(problem, option)) from None


def check_ports(words: Sequence[str]) -> None:
    """Raises InvalidArgument for an option of another program that names a port, and is none.

    JupyterLab takes 70000, and prints an address that nobody can open; Locust waits for ever.
    """
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        option, has_value, value = word.partition("=")
        if _A_PORT.fullmatch(option):
            whole(option, _read(value if has_value else following), 0, HIGHEST_PORT)


def _read(given: int | str) -> Any:
    """The whole number that a text stands for; another text as it is."""
    text = str(given)
    return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) else given
