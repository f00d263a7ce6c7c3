"""The gateway as a child process, for notebooks, benchmarks and tests."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kvlab.errors import KvlabError
from kvlab.server.guarded_process import Guarded, python_command
from kvlab.server.running_server import last_lines

_START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ServedGateway:
    """A running gateway: ``kvlab.connect(gateway.url, token=gateway.token)``."""

    url: str
    token: str = field(repr=False)
    read_only_token: str = field(repr=False)
    pid: int
    log_file: Path = field(repr=False)

    @property
    def log(self) -> str:
        """Everything that the gateway has written so far; its tokens are in it."""
        return self.log_file.read_text(errors="replace")


@contextmanager
def serving(store: str | None = None) -> Iterator[ServedGateway]:
    """Serve the store at the URL ``store``, else the one of ``connect()``, inside the block.

    The gateway listens on a free port of loopback, with new tokens. After the block, and when
    this process is killed, the gateway has ended. Raises :class:`~kvlab.errors.KvlabError` with
    the end of its log when it does not start.
    """
    env = {"PYTHONUNBUFFERED": "1", "KV_REST_API_TOKEN": "", "KV_REST_API_READ_ONLY_TOKEN": ""}
    if store is not None:
        env["KVLAB_URL"] = store
    with tempfile.TemporaryDirectory(prefix="kvlab-rest-") as name:
        directory = Path(name)
        log = directory / "gateway.log"
        command = python_command("kvlab.rest_gateway.serve")
        child = Guarded(command, log=log, directory=directory, env=env)
        try:
            yield _started(child, log)
        finally:
            child.end()


def _started(child: Guarded, log: Path) -> ServedGateway:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        ended, said = child.has_ended(), log.read_text(errors="replace")
        # The socket listens before this line: what comes earlier than uvicorn waits there.
        if re.search(r"^serving .*\n", said, re.MULTILINE):
            facts = dict(re.findall(r"^KV_REST_API_(\w+)=(.*)$", said, re.MULTILINE))
            return ServedGateway(
                facts["URL"], facts["TOKEN"], facts["READ_ONLY_TOKEN"], child.pid, log
            )
        if ended:
            raise KvlabError("the gateway ended before it served:\n" + last_lines(said))
        time.sleep(0.02)
    raise KvlabError(f"the gateway did not start within {_START_SECONDS:.0f} s")
