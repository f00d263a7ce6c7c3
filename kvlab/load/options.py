"""The command-line options that every load test has."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from argparse import ArgumentTypeError
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, NoReturn

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.load.arrivals import SHAPES

REPORTS = "loads"
"""The default folder for the folders of runs."""

PARENT = "KVLAB_LOAD_PARENT"
"""The environment variable with the process that a load test must not outlive."""


class ExitCode(IntEnum):
    """What ``kvlab load`` says to a script. ``SERVER``: no server or app that could be loaded."""

    HOLDS = 0
    BROKEN = 1
    USAGE = 2
    SERVER = 3
    REPORT = 4
    SHOWS_NOTHING = 5


JUDGED = 64
"""Added to the code of a judged run below ``kvlab load``: Locust's own 1 is no verdict."""


INTERRUPTED = 130
"""The exit status of a command that Ctrl-C has ended before it could judge a run."""


class NoReport(KvlabError):
    """No run can make its folder."""


# Locust's page does not show this option: only its command line has it.
_HIDDEN = {"include_in_web_ui": False}


def add_options(parser: Any) -> Callable[..., Any]:
    """Add the options of every load test; returns the function that adds further ones."""
    # Locust's page and the port for its workers are open to this machine alone by default.
    parser.set_defaults(web_host="127.0.0.1", master_bind_host="127.0.0.1", stop_timeout=5)
    # Otherwise argparse says "invalid int value", and not what is allowed. Locust's options too.
    parser.register("type", int, _whole)
    parser.register("type", float, _number)
    if PARENT in os.environ:
        parser.error = _one_line  # argparse names a file of Locust's, and shows all its usage
    # Not in a group: Locust's page would not show the options of a group.
    add: Callable[..., Any] = parser.add_argument
    _add_load(add)
    _add_faults(add)
    _add_output(add)
    return add


def _one_line(message: str) -> NoReturn:
    print(f"kvlab: {message}; the options: kvlab load NAME -- --help", file=sys.stderr)
    sys.exit(ExitCode.USAGE)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"a whole number is needed, not {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"a number is needed, not {text!r}") from None


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not rate:
        raise ArgumentTypeError(f"a number above 0, not {text!r}; without it the loop is closed")
    return rate


def _add_load(add: Callable[..., Any]) -> None:
    add(
        "--rate",
        type=_rate,
        default=0.0,
        help="arrivals a second in an open loop; without a rate the loop is closed: each user "
        "calls again as soon as its last call is answered",
    )
    add(
        "--shape",
        choices=list(SHAPES),
        default="constant",
        help="how the number of users, or the rate, changes during the run",
    )
    add("--naive", action="store_true", help="load the tutorial's version, which must fail")
    add(
        "--app",
        action="store_true",
        help="start the sample web app and load the pattern through it; for an app that runs "
        "already, use --host http://…",
        **_HIDDEN,
    )


def _add_faults(add: Callable[..., Any]) -> None:
    add(
        "--lose-replies",
        type=int,
        default=0,
        metavar="N",
        help="lose every N-th reply of the store on its way to the client",
    )
    add(
        "--fault",
        action="append",
        default=[],
        help="a fault and its second of the run: pause@5:2, cut@8, flush@10, restart@12:1; the "
        "run starts a server of its own; may be repeated",
        **_HIDDEN,
    )


def _add_output(add: Callable[..., Any]) -> None:
    add(
        "--reports",
        default=REPORTS,
        help="the folder in which each run makes a folder of its own",
        **_HIDDEN,
    )
    add(
        "--no-page",
        action="store_true",
        help="do not draw the report's page, which takes a second",
        **_HIDDEN,
    )


def check_port(host: str, port: int) -> None:
    """Raises InvalidArgument when Locust's page cannot have the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise InvalidArgument(
                f"Locust's page cannot have port {port} of {host}: {problem.strerror}; use another "
                "--web-port, or --headless"
            ) from None


def page_address(options: Any) -> str:
    """The address of Locust's page, for a browser on this machine."""
    scheme = "https" if options.tls_cert and options.tls_key else "http"
    host = options.web_host if options.web_host not in (None, "", "*", "0.0.0.0") else "127.0.0.1"
    path = options.web_base_path or ""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{options.web_port}{path}"


def check_reports(folder: Path) -> None:
    """Raises NoReport when no run can make a folder in ``folder``, which is made if absent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".kvlab-", dir=folder):
            pass
    except OSError as problem:
        raise NoReport(
            f"no report can be written to {folder}: {problem.strerror}; use another --reports"
        ) from None
