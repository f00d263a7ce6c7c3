"""Makes load runs one after the other in one process, without Locust's own ``main``.

Importing Locust patches the interpreter and takes two seconds: the process is a fork of one that
has imported it. Each case leaves its runs in a folder of its name; the fork prints as JSON what
each case ended with.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from kvlab.load import command
from kvlab.server.prepared import Prepared

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """``code``: as of ``kvlab load``. ``said``: what was printed. ``folder``: where runs lie."""

    code: int
    said: str
    folder: Path

    @property
    def run(self) -> Any:
        from kvlab.load.record.run import LoadRun

        (folder,) = self.folder.iterdir()
        return LoadRun.read(folder)


@contextlib.contextmanager
def prepared_locust() -> Iterator[Prepared]:
    """A process that has imported Locust and the load tests."""
    with Prepared(command._IMPORTS, {"PYTHONPATH": str(TESTS)}) as prepared:
        yield prepared


def runs(
    prepared: Prepared, name: str, cases: Mapping[str, Sequence[str]], folder: Path, store: str
) -> dict[str, Ended]:
    """What each case ended with. ``store``: the URL of the server of cases without a host."""
    words = ["load_runs", name, str(folder), json.dumps(cases)]
    env = os.environ | {"KVLAB_URL": store}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as problems:
        fork = prepared.start("support.load_runs:main", words, env=env, stdout=out, stderr=problems)
        try:
            code = fork.wait(180)
        finally:
            fork.kill()
        for said in (out, problems):
            said.seek(0)
        assert code == 0, problems.read()
        ends = json.loads(out.read())
    return {case: Ended(code, said, folder / case) for case, (code, said) in ends.items()}


def _ended(user: Any, arguments: Sequence[str]) -> int:
    """Make a run as Locust's ``main`` does; the exit code."""
    from locust import events
    from locust.argument_parser import get_parser
    from locust.env import Environment

    words = ["-f", "file.py", "--users", "20", "--spawn-rate", "20", "--no-page", *arguments]
    try:
        given = get_parser().parse_args(words)
        environment: Any = Environment(user_classes=[user], parsed_options=given, host=given.host)
        runner = environment.create_local_runner()
        events.init.fire(environment=environment, runner=runner, web_ui=None)
        runner.start(given.num_users, given.spawn_rate)
        runner.greenlet.join()
        environment.events.quitting.fire(environment=environment, reverse=True)
        environment.events.quit.fire(exit_code=environment.process_exit_code)
    except SystemExit as ended:
        return int(str(ended.code))
    return int(environment.process_exit_code)


def main() -> None:
    import gevent

    gevent.reinit()  # as ``kvlab.load.generator.forked`` does
    name, folder, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    file = import_module(f"kvlab.load.{name}.locustfile")
    (user,) = (getattr(file, one) for one in file.__all__)
    ends = {}
    for case, arguments in cases.items():
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = _ended(user, [*arguments, "--reports", f"{folder}/{case}"])
        ends[case] = (code, said.getvalue())
    print(json.dumps(ends))
