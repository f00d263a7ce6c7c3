"""The Locust runs behind ``kvlab load`` and chapter 10: headless, with a verdict and a folder."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module, resources
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any

from kvlab.core.checks import whole
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.instruments.explorer.processes import can_fork
from kvlab.load.options import INTERRUPTED, JUDGED, PARENT, REPORTS, ExitCode, add_options
from kvlab.server.prepared import Forked, Prepared
from kvlab.server.running_server import free_port

if TYPE_CHECKING:
    from kvlab.load.record.run import LoadRun

LOAD_TESTS = {"rate-limiter": "kvlab.load.rate_limiter", "leaderboard": "kvlab.load.leaderboard"}
_MAIN = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of imports: a run has its own handler
from locust.main import main
main()
"""
_LOCUST = (sys.executable, "-c", _MAIN)
_IMPORTS = (
    "locust",  # before anything that uses a socket
    "kvlab.load.generator.forked",
    "kvlab.load.generator.install",
    *(f"{load}.{part}" for load in LOAD_TESTS.values() for part in ("load", "user")),
)
_FORKED = "kvlab.load.generator.forked:main"
_GUARDS: dict[int, threading.Lock] = {}
"""A lock for each process: a fork could copy a lock that is taken."""
_PREPARED: dict[int, Prepared] = {}
_LEAVING = 10.0
_HANDS_ON_INTERRUPTS = os.name == "posix"
"""Elsewhere Ctrl-C reaches every process of a console, and no process can be sent it."""
_UNITS = {"h": 3600, "m": 60, "s": 1}


def chosen(words: Sequence[str]) -> tuple[str, list[str]]:
    """The load test that a command line names, the first one without a name; the other words.

    The name may stand before, between and after options, and with ``_`` for ``-``. Raises
    :class:`InvalidArgument` for another word in its place.
    """
    for place, word in enumerate(words):
        if (name := word.replace("_", "-")) in LOAD_TESTS:
            return name, [*words[:place], *words[place + 1 :]]
    if words and not words[0].startswith("-"):
        _check_name(words[0])
    return next(iter(LOAD_TESTS)), [*words]


def seconds(text: str) -> int:
    """The seconds in ``30s``, ``2m``, ``1h30m`` or a plain number of seconds."""
    if text.isdecimal() and int(text) > 0:
        return int(text)
    if not re.fullmatch(r"(\d+h)?(\d+m)?(\d+s)?", text) or not text:
        raise InvalidArgument(f"the time must be like 30s, 2m or 1h30m, not {text!r}")
    total = sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([hms])", text))
    if not total:
        raise InvalidArgument(f"the time must be at least 1s, not {text!r}")
    return total


def run(
    name: str,
    *,
    users: int = 20,
    length: int | None = 30,
    more: Sequence[str] = (),
    reports: str | Path = REPORTS,
    web: bool = False,
) -> int:
    """Run one load test for ``length`` seconds; the answer is an :class:`ExitCode`.

    ``more`` goes to Locust; the run makes its folder in ``reports``. With ``web``, Locust's page
    starts the runs, and proposes ``length``. With ``--help`` in ``more``, the options are printed
    instead. Raises :class:`InvalidArgument` for an unknown name.
    """
    if {"-h", "--help"} & {*more}:
        _print_options(name)
        return 0
    refuse_options_of_others(name, more)
    command = [*_LOCUST, *_arguments_of(name, users, more, reports)]
    command += ["--run-time", f"{length}s"] if length and "--worker" not in more else []
    if "--worker" in more:
        print(f"a worker of {name}: it waits for its master, who gives the verdict", flush=True)
    elif not web:
        command += ["--headless", "--only-summary"]
    # In a session of its own: an interrupt reaches us alone, from a terminal or from a script.
    process = subprocess.Popen(
        command, env=_environment(os.getpid()), start_new_session=_HANDS_ON_INTERRUPTS
    )
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        ended = process.wait()
    except KeyboardInterrupt:
        ended = _interrupted(process)
        if ended < JUDGED:
            print("\nkvlab: stopped before there was a run; nothing was kept", file=sys.stderr)
            return INTERRUPTED
    if ended >= JUDGED:
        return ended - JUDGED
    return ExitCode.USAGE if ended == 1 else ended  # 1: Locust does not take its command line


def _interrupted(process: subprocess.Popen[bytes]) -> int:
    """Hand an interrupt on to Locust, which stops its users and then gives the verdict.

    Once: a second interrupt would end the clean-up.
    """
    if _HANDS_ON_INTERRUPTS:
        process.send_signal(signal.SIGINT)
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            return process.wait()


def record(
    name: str, *, seconds: int = 5, users: int = 20, **options: bool | float | str | Sequence[str]
) -> LoadRun:
    """Make one run without output and return its record, whether its promise held or not.

    ``options`` are those of the Locust file: ``record("rate-limiter", algorithm="fixed-window",
    naive=True, fault=["pause@2:1"])``. Raises :class:`KvlabError`, with Locust's last lines, when
    there was no run; :class:`InvalidArgument` when an option was wrong.
    """
    return record_words(name, seconds, users, _arguments(options))


def record_words(name: str, seconds: int, users: int, words: Sequence[str]) -> LoadRun:
    """:func:`record` with the words of a command line in place of options."""
    from kvlab.load.record.run import LoadRun  # pandas takes a second to import

    with tempfile.TemporaryDirectory(prefix="kvlab-load-") as reports, TemporaryFile() as said:
        arguments = _arguments_of(name, users, [*words, "--no-page"], reports)
        arguments += ["--headless", "--only-summary", "--run-time", f"{seconds}s"]
        process = _quick_start(arguments, said) if can_fork() else _start(arguments, said)
        try:
            code = process.wait()
        except (KeyboardInterrupt, SystemExit):
            process.send_signal(signal.SIGINT)  # Locust removes the keys of the run
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LEAVING)
            raise
        finally:
            process.kill()
        folders = list(Path(reports).iterdir())
        if code < JUDGED or not folders:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-5:]
            problem = InvalidArgument if code == ExitCode.USAGE else KvlabError
            raise problem("the load test made no run:\n" + "\n".join(last))
        return LoadRun.read(folders[0])


def _start(arguments: Sequence[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    """Locust, in a Python of its own; ``said`` gets its errors."""
    command = [*_LOCUST, *arguments]
    env = _environment(os.getpid())
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=said)


def _quick_start(arguments: Sequence[str], said: IO[bytes]) -> Forked:
    """Locust, in a fork of a process that has imported it: a run begins a second earlier."""
    prepared = _prepared(os.getpid())
    env = _environment(prepared.pid)
    with open(os.devnull, "wb") as nothing:
        words = ["locust", *arguments]
        return prepared.start(_FORKED, words, env=env, stdout=nothing, stderr=said)


def _prepared(owner: int) -> Prepared:
    """The process that forks for each run of ``owner``, which is this process.

    One for all threads: a second one would end as soon as it is forgotten, amid its run.
    """
    with _GUARDS.setdefault(owner, threading.Lock()):
        known = _PREPARED.get(owner)
        if known is None or known.has_ended:
            known = _PREPARED[owner] = Prepared(_IMPORTS)
        return known


def _arguments_of(name: str, users: int, more: Sequence[str], reports: str | Path) -> list[str]:
    _check_name(name)
    whole("users", users, 1)
    file = resources.files(LOAD_TESTS[name]) / "locustfile.py"
    words = ["-f", str(file), "--loglevel", "ERROR"]
    words += ["--users", str(users), "--spawn-rate", str(users), "--reports", str(reports)]
    if any(word.partition("=")[0] == "--processes" for word in more):
        # With the usual port, workers of one load test could find the master of another.
        port = str(free_port())
        words += ["--master-port", port, "--master-bind-port", port]
    return [*words, *more]


class _Options(argparse.ArgumentParser):
    """A parser that knows Locust's extra argument of ``add_argument``."""

    def add_argument(self, *args: Any, include_in_web_ui: bool = True, **kwargs: Any) -> Any:
        return super().add_argument(*args, **kwargs)

    @property
    def options(self) -> set[str]:
        """The names of its options."""
        return {*self._option_string_actions}


def _print_options(name: str) -> None:
    """The options of a load test. Locust's own ``--help`` leaves out those of a Locust file."""
    _check_name(name)
    _parser(name).print_help()


def _parser(name: str) -> _Options:
    parser = _Options(
        prog=f"kvlab load {name}",
        add_help=False,
        usage="%(prog)s [options]",
        epilog="All options of Locust work too: locust --help lists them.",
    )
    import_module(f"{LOAD_TESTS[name]}.settings").add_options(add_options(parser))
    return parser


def refuse_options_of_others(name: str, words: Sequence[str]) -> None:
    """Raises :class:`InvalidArgument` for an option that another load test alone has."""
    _check_name(name)
    options = {one: _parser(one).options for one in LOAD_TESTS}
    for option in (word.partition("=")[0] for word in words):
        for other in LOAD_TESTS:
            if option in options[other] - options[name]:
                raise InvalidArgument(f"{option} is an option of {other}, not of {name}")


def _check_name(name: str) -> None:
    if name not in LOAD_TESTS:
        raise InvalidArgument(
            f"there is no load test {name!r}; the load tests are {', '.join(LOAD_TESTS)}"
        )


def _environment(parent: int) -> dict[str, str]:
    return os.environ | {PARENT: str(parent)}


def _arguments(options: Mapping[str, bool | float | str | Sequence[str]]) -> list[str]:
    arguments = []
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            arguments += [option] * value
        elif isinstance(value, int | float | str):
            arguments += [option, str(value)]
        else:
            arguments += [word for text in value for word in (option, text)]
    return arguments
