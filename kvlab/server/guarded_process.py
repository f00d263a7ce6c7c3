"""A child process that never outlives its parent, however the parent ends.

A server that outlives its parent keeps its port, its memory and its stale data. Two mechanisms
prevent this; both need POSIX alone:

- A foreign binary gets a watcher, a small shell that reads a pipe:
  1. The child is a shell that writes its pid into the pipe, then becomes the binary.
  2. We hold the other write end. When we die, by kill -9 too, the kernel closes it.
  3. The watcher reads end-of-file and kills the pid. On an orderly exit we write a farewell first.
  The child writes its own pid, so that at no moment can we die and leave the child unwatched.
- A Python child of ours reads its own standard input and ends at end-of-file (``own_watch=True``).

Not promised: a child whose watcher was killed as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

_CHILD = 'echo $$ >&0; exec "$@" </dev/null'
_WATCHER = 'read -r pid || exit 0; read -r farewell || kill -9 "$pid"'


def python_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs ``module.main()`` of this kvlab in this Python, from any directory."""
    root = str(Path(__file__).parents[2])
    code = f"import sys; sys.path.append({root!r}); from {module} import main; main()"
    return (sys.executable, "-P", "-c", code, *arguments)


class Guarded:
    """A running child. Its output goes to ``log``, or where ours goes; ``env`` is added to ours.

    The child has a session of its own, so that Ctrl-C in our terminal does not reach the child.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | None,
        directory: Path,
        env: Mapping[str, str] | None = None,
        own_watch: bool = False,
    ) -> None:
        self._watcher: subprocess.Popen[bytes] | None = None
        read_end, self._lifeline = os.pipe()
        try:
            if not own_watch:
                command = ("/bin/sh", "-c", _CHILD, "sh", *command)
                self._watcher = subprocess.Popen(
                    ("/bin/sh", "-c", _WATCHER),
                    stdin=read_end,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            with nullcontext() if log is None else log.open("ab") as output:
                self.process = subprocess.Popen(
                    command,
                    stdin=read_end if own_watch else self._lifeline,
                    stdout=output,
                    stderr=None if log is None else subprocess.STDOUT,
                    cwd=directory,
                    env={**os.environ, **(env or {})},
                    start_new_session=True,
                )
        except BaseException:
            self._release()
            raise
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int:
        """The child's process id; after the exec it is the server itself."""
        return self.process.pid

    def has_ended(self) -> bool:
        """Whether the child is gone."""
        return self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the child is gone already."""
        self.process.send_signal(number)

    def end(self) -> None:
        """Kill the child and wait for it. May be called again."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._release()

    def _release(self) -> None:
        if self._lifeline < 0:
            return
        lifeline, self._lifeline = self._lifeline, -1
        if self._watcher is None:
            os.close(lifeline)
            return
        try:
            os.write(lifeline, b"farewell\n")
        except BrokenPipeError:
            pass  # the watcher has ended
        finally:
            os.close(lifeline)
            self._watcher.wait()
