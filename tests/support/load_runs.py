"""Makes load runs one after the other in one process, without Locust's own ``main``.

    python -m support.load_runs rate_limiter FOLDER '{"holds": ["--run-time", "1s"], …}'

Importing Locust patches the interpreter and takes two seconds. Run number n leaves its folder in
FOLDER/n; what each case ended with is printed as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

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


def runs(
    name: str, cases: Mapping[str, Sequence[str]], folder: Path, store: str
) -> dict[str, Ended]:
    """What each case ended with. ``store``: the URL of the server of cases without a host."""
    done = subprocess.run(
        [sys.executable, "-m", "support.load_runs", name, str(folder), json.dumps(cases)],
        env=os.environ
        | {"KVLAB_URL": store, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
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
    import_module("locust")  # patches the interpreter, before anything opens a socket
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


if __name__ == "__main__":
    main()
