"""The options that every load test has, and what of them is refused before a run."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from locust import LoadTestShape

from kvlab.errors import InvalidArgument
from kvlab.load.arrivals import SHAPES


def add_options(parser: Any) -> Callable[..., Any]:
    """The options of every load test; how to add more."""
    # Locust's own: its pages and its workers' port are for this machine unless said otherwise.
    parser.set_defaults(web_host="127.0.0.1", master_bind_host="127.0.0.1", stop_timeout=5)
    # Not in a group: Locust's page would not show them.
    add: Callable[..., Any] = parser.add_argument
    add(
        "--rate",
        type=float,
        default=0.0,
        help="open loop: arrivals a second (0: closed loop, each "
        "user asks again as soon as it is answered)",
    )
    add(
        "--shape",
        choices=list(SHAPES),
        default="constant",
        help="how the users, or the rate, change over the run",
    )
    add("--naive", action="store_true", help="load the tutorial's version instead")
    add(
        "--lose-replies",
        type=int,
        default=0,
        metavar="N",
        help="each N-th answer of the store is lost on its way",
    )
    add(
        "--fault",
        action="append",
        default=[],
        include_in_web_ui=False,
        help="pause@5:2, cut@8, "
        "flush@10, restart@12:1: seconds into the run, on a server of its own; may be repeated",
    )
    add(
        "--app",
        action="store_true",
        include_in_web_ui=False,
        help="through the sample web app, which is started; one that runs already: --host http://…",
    )
    add(
        "--reports",
        default="loads",
        include_in_web_ui=False,
        help="each run leaves a folder in this one",
    )
    add(
        "--no-page",
        action="store_true",
        include_in_web_ui=False,
        help="leave the report's page out: a second less",
    )
    return add


def check(given: Any) -> None:
    """Raises InvalidArgument for options that no load test can use.

    Before each run: the web UI may have changed one.
    """
    if given.num_users is not None and given.num_users < 1:
        raise InvalidArgument(f"users must be at least 1, not {given.num_users}")
    if not 0 <= given.rate < 1e7:
        raise InvalidArgument(f"rate must be arrivals a second, or 0, not {given.rate}")
    if given.lose_replies < 0:
        raise InvalidArgument(f"lose-replies must be 0 or more, not {given.lose_replies}")
    if given.shape != "constant" and not given.run_time:
        raise InvalidArgument(f"--shape {given.shape} needs a --run-time")


def check_port(host: str, port: int) -> None:
    """Raises InvalidArgument when the web UI cannot have it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as problem:
            raise InvalidArgument(
                f"the web UI cannot have port {port} of {host}: {problem.strerror}; take another "
                "--web-port, or --headless"
            ) from None


class Shape(LoadTestShape):
    """The users of ``--shape``, in a closed loop."""

    def __init__(self, given: Any, runner: Any) -> None:
        LoadTestShape.__init__(self)
        self.given, self.runner = given, runner

    def tick(self) -> tuple[int, float] | None:
        share = LoadTestShape.get_run_time(self) / self.given.run_time
        if share >= 1:
            return None
        users = max(1, round(self.given.num_users * SHAPES[self.given.shape](share)))
        return users, max(users, 100)
