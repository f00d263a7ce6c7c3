"""A process that has imported what many processes need, and forks for each of them.

A process that uses pandas, matplotlib or Locust spends more than a second on imports. Here:

1. ``Prepared(modules)`` starts a process. The process imports ``modules``, and waits on a socket.
2. ``start(...)`` sends one end of a new socket, and the standard output and error of the fork.
3. The process forks. The fork takes its environment, directory and arguments from us, and calls a
   function. So all but the imported modules is as new as in any other process.
4. The process tells us the pid of the fork, and later how the fork ended.
5. When we end, by kill -9 too, our socket closes, and the prepared process ends (after a child of
   ``os.fork()`` that shares the socket). The parent of a fork that still runs has then changed
   (``os.getppid()``).

``multiprocessing``'s forkserver does not do this: its children keep it alive, so a kernel would not
see that we have ended.

Not promised: the hash seed of a fork differs from that of its siblings. Needs POSIX.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any

_NUMBER = struct.Struct("!i")
# Not the current folder; and kvlab only when a module asks for it: Locust must be imported first.
_COMMAND = f"""
import runpy, sys
sys.path[:] = [*sys.path[1:], {str(Path(__file__).parents[2])!r}]
runpy.run_path({__file__!r})["main"]()
"""


class Forked:
    """A fork that runs. Has what code that is given a ``subprocess.Popen`` asks of it."""

    stdin = stdout = stderr = None

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers
        self.returncode: int | None = None
        pid = self._read(None)
        if pid is None or pid < 0:
            raise ChildProcessError("the prepared process has ended")
        self.pid = pid

    def _read(self, seconds: float | None) -> int | None:
        """The next number; None: not yet; -SIGKILL: the prepared process has ended."""
        if not select.select([self._answers], [], [], seconds)[0]:
            return None
        answer = self._answers.recv(_NUMBER.size)
        return int(_NUMBER.unpack(answer)[0]) if answer else -signal.SIGKILL

    def poll(self) -> int | None:
        """How the fork ended, as a ``Popen`` says it; None while the fork runs."""
        if self.returncode is None and (ended := self._read(0)) is not None:
            self._end(ended)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """How the fork ended. Raises :class:`subprocess.TimeoutExpired` after ``timeout`` s."""
        if self.returncode is None:
            if (ended := self._read(timeout)) is None:
                raise subprocess.TimeoutExpired("fork", timeout or 0)
            self._end(ended)
        assert self.returncode is not None
        return self.returncode

    def _end(self, code: int) -> None:
        self.returncode = code
        self._answers.close()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the fork has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Prepared:
    """The process that has imported ``modules``; ``env`` is its environment while it imports.

    May be used by several threads. A context: on exit the process ends; its forks go on.
    """

    def __init__(self, modules: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                (sys.executable, "-c", _COMMAND, str(theirs.fileno()), *modules),
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The parent of the forks."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, so that it starts nothing any more."""
        return self._process.poll() is not None

    def start(
        self,
        function: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | Path = ".",
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
    ) -> Forked:
        """Fork, and call ``function`` ("module:name") in the fork, with ``sys.argv = arguments``.

        The environment of the fork is ``env``, and the fork has a session of its own. Raises
        :class:`ChildProcessError` when the prepared process has ended.
        """
        ours, theirs = socket.socketpair()
        outputs = [
            own if given is None else given if isinstance(given, int) else given.fileno()
            for own, given in ((1, stdout), (2, stderr))
        ]
        with theirs:
            try:
                socket.send_fds(self._socket, [b"!"], [theirs.fileno(), *outputs])
            except OSError:
                raise ChildProcessError("the prepared process has ended") from None
        asked = json.dumps([function, list(arguments), dict(env), os.path.abspath(cwd)])
        ours.sendall(asked.encode() + b"\n")
        return Forked(ours)

    def end(self) -> None:
        """End the prepared process. Its forks go on, and say no more how they ended."""
        self._socket.close()
        self._process.wait()

    def __enter__(self) -> Prepared:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def main() -> None:
    """The prepared process. In a fork, calls the function: Python then ends as it always does."""
    number, *modules = sys.argv[1:]
    prepared = _Forking(socket.socket(fileno=int(number)))
    for module in modules:
        with contextlib.suppress(ImportError):  # who needs the module says so
            import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page
    if (function := prepared.wait()) is not None:
        function()


class _Forking:
    """What the prepared process does after its imports.

    The functions that it calls are bound before: Locust's import replaces fork, select and socket.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._fork, self._waitpid, self._socket = os.fork, os.waitpid, socket.socket
        self._signal = signal.signal
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._forks: dict[int, socket.socket] = {}

    def wait(self) -> Callable[[], object] | None:
        """In a fork: what it shall call. None once our owner has ended."""
        while True:
            for ready, _ in self._poll.poll():
                if ready == self._woken:
                    os.read(self._woken, 4096)
                    self._tell()
                    continue
                _, handed, _, _ = socket.recv_fds(self._control, 1, 3)
                if not handed:
                    return None
                answers, *outputs = handed
                if (pid := self._fork()) == 0:
                    return self._become(self._socket(fileno=answers), outputs)
                self._forks[pid] = self._socket(fileno=answers)
                for descriptor in outputs:
                    os.close(descriptor)

    def _tell(self) -> None:
        """Say how the forks ended that have ended."""
        while self._forks:
            pid, status = self._waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            with self._forks.pop(pid) as answers, contextlib.suppress(OSError):
                answers.sendall(_NUMBER.pack(os.waitstatus_to_exitcode(status)))

    def _become(self, answers: socket.socket, outputs: Sequence[int]) -> Callable[[], object]:
        """Take over what the fork was asked for; the function to call."""
        os.setsid()
        signal.set_wakeup_fd(-1)
        self._signal(signal.SIGCHLD, signal.SIG_DFL)
        for left in (self._control, *self._forks.values()):
            left.close()
        for number, descriptor in enumerate(outputs, start=1):
            os.dup2(descriptor, number)
        for descriptor in (*outputs, self._woken, self._wake):
            os.close(descriptor)
        with answers, answers.makefile("rb") as asked:
            function, arguments, env, cwd = json.loads(asked.readline())
            answers.sendall(_NUMBER.pack(os.getpid()))
        sys.argv[:] = arguments
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        module, _, name = function.partition(":")
        called: Callable[[], object] = getattr(import_module(module), name)
        return called
