"""Hands a load test to Locust.

A Locust file makes a :class:`~kvlab.load.verdict.LoadTest` and calls :func:`install`. The exit code
of Locust is an :class:`~kvlab.load.options.ExitCode` then.
"""

from __future__ import annotations

import inspect
import logging
import os
import signal
import sys
from typing import Any

import gevent
from gevent.monkey import get_original
from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from kvlab.core.server_url import with_advice
from kvlab.errors import InvalidArgument, KvlabError, RemoteNotAllowed
from kvlab.load.generator.lifecycle import Lifecycle
from kvlab.load.generator.workers import Worker
from kvlab.load.options import PARENT, ExitCode, NoReport, add_options
from kvlab.load.target.app_client import AppFailed
from kvlab.load.verdict import LoadTest

Event: Any = get_original("threading", "Event")
_start_thread, _sleep = get_original("_thread", "start_new_thread"), get_original("time", "sleep")


def install(test: LoadTest[Any, Any]) -> None:
    """Let Locust run ``test``."""
    events.init_command_line_parser.add_listener(
        lambda parser, **_: test.add_options(add_options(parser))
    )
    here, begun = os.getpid(), Event()

    def begin(environment: Environment, **_: Any) -> None:
        begun.set()
        _begin_life(test, environment, here)

    events.init.add_listener(begin)
    os.register_at_fork(after_in_child=lambda: _start_thread(_end_orphan, (here, begun)))


def _begin_life(test: LoadTest[Any, Any], environment: Environment, installed: int) -> None:
    """``installed``: the process that read the Locust file; a forked worker has another id."""
    if isinstance(environment.runner, WorkerRunner):
        _interrupt_only(gevent.getcurrent(), Worker(test, environment))
        if os.getpid() != installed:  # Locust ends its workers only after an orderly run
            gevent.spawn(_end_with, installed, gevent.getcurrent())
        return
    inspect.stack()  # reads source files once; Locust's stop() would, with users under way
    _interrupt_only(gevent.getcurrent())
    if parent := os.environ.get(PARENT):
        gevent.spawn(_end_with, int(parent), gevent.getcurrent())
        _quiet(environment)
    try:
        Lifecycle(test, environment)
    except (KvlabError, AppFailed) as problem:
        said = with_advice(problem, "--host" if environment.host else None)
        print(f"kvlab: {said}", file=sys.stderr)
        sys.exit(_exit_code(problem))


def _end_orphan(master: int, begun: Event) -> None:
    """End a forked worker whose master is gone before the life of the worker begins.

    Until then the worker waits for a word of its master, for minutes, and runs no greenlet of ours.
    """
    while not begun.is_set():
        if os.getppid() != master:
            os._exit(ExitCode.SERVER)
        _sleep(0.5)


def _quiet(environment: Environment) -> None:
    """Print no tables of Locust above the verdict, unless they are asked for."""
    if environment.parsed_options is not None and not environment.parsed_options.print_stats:
        logging.getLogger("locust.stats_logger").setLevel(logging.ERROR)


def _exit_code(problem: Exception) -> ExitCode:
    if isinstance(problem, NoReport):
        return ExitCode.REPORT
    usage = isinstance(problem, InvalidArgument | RemoteNotAllowed)
    return ExitCode.USAGE if usage else ExitCode.SERVER


def _end_with(parent: int, main: Any) -> None:
    """End Locust when the process that started it is gone, by kill -9 too."""
    while os.getppid() == parent:
        gevent.sleep(1)
    gevent.get_hub().loop.run_callback(main.throw, KeyboardInterrupt)


def _interrupt_only(main: Any, worker: Worker | None = None) -> None:
    """Let Ctrl-C end Locust's main greenlet, not the running one, which may be a user's call.

    The first Ctrl-C of a run ends no worker: it reached the master too, which stops its workers.
    """

    def interrupt() -> None:
        if worker is not None and worker.outlives_interrupt():
            return
        gevent.get_hub().loop.run_callback(main.throw, KeyboardInterrupt)

    gevent.signal_handler(signal.SIGINT, interrupt)
