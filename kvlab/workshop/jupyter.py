"""Jupyter as the workbook needs it, whatever the user's own Jupyter looks like.

* The kernel ``python3`` is the Python that runs kvlab. Our kernelspec comes first on JUPYTER_PATH,
  so that a foreign or a broken ``python3`` elsewhere is never started.
* Each folder that Jupyter, IPython or matplotlib writes to is the user's own when it is writable;
  otherwise it lies in the folder of the embedded server.
* Our own notebooks are trusted, so that their diagrams are shown before a cell runs.
"""

from __future__ import annotations

import importlib.resources
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from kvlab.errors import KvlabError
from kvlab.server import rendezvous
from kvlab.server.guarded_process import python_command

FILES = Path(str(importlib.resources.files("kvlab.workshop") / "jupyter_files"))
LAB_SETTINGS = FILES / "lab_settings"


def environment() -> dict[str, str]:
    """What to add to the environment of a process that runs Jupyter."""
    added = {name: str(_writable(name, path)) for name, path in _folders().items()}
    if os.environ.get("KVLAB_RUNTIME_DIR"):  # a kernel runs in another folder than we do
        added["KVLAB_RUNTIME_DIR"] = str(rendezvous.default_directory())
    path = [str(FILES), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    return added | {"JUPYTER_PATH": os.pathsep.join(path)}


def _folders() -> Mapping[str, Path]:
    """Where Jupyter and its kernels write, by environment variable."""
    from jupyter_core import paths

    home, config = Path.home(), Path(paths.jupyter_config_dir())
    usual = {
        "JUPYTER_CONFIG_DIR": config,
        "JUPYTER_DATA_DIR": Path(paths.jupyter_data_dir()),
        "JUPYTER_RUNTIME_DIR": Path(paths.jupyter_runtime_dir()),
        "JUPYTERLAB_SETTINGS_DIR": config / "lab" / "user-settings",
        "JUPYTERLAB_WORKSPACES_DIR": config / "lab" / "workspaces",
        "IPYTHONDIR": home / ".ipython",
        "MPLCONFIGDIR": home / ".config" / "matplotlib",
    }
    return {name: Path(os.environ.get(name) or path) for name, path in usual.items()}


def _writable(name: str, folder: Path) -> Path:
    """The folder, or its place beside the embedded server when the folder cannot be written to."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return folder
    instead = rendezvous.place().directory / "jupyter" / name.lower()
    instead.mkdir(parents=True, exist_ok=True)
    return instead


def encrypts() -> bool:
    """Whether the installed Jupyter can encrypt what the server and a kernel say to each other.

    A kernel that does not encrypt warns of eavesdropping at each start, on loopback too.
    """
    import zmq
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.manager import KernelManager

    of_kernel = get_kernel_dict()["metadata"].get("supported_encryption", ())
    return (
        "curve" in of_kernel and hasattr(KernelManager, "transport_encryption") and zmq.has("curve")
    )


def trust(notebooks: Iterable[Path], data: Path) -> None:
    """Sign these notebooks in the user's Jupyter: their HTML and SVG is shown."""
    import nbformat
    from nbformat.sign import NotebookNotary

    data.mkdir(parents=True, exist_ok=True)
    notary = NotebookNotary(data_dir=str(data))
    for path in notebooks:
        notary.sign(nbformat.read(path, as_version=4))


def try_kernel(folder: Path, seconds: float) -> None:
    """Start the kernel and run a cell in it. Raises :class:`KvlabError` when that fails.

    ``folder``: for temporary files, which a Python that is stopped would leave behind.
    """
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    try:
        done = subprocess.run(
            python_command("kvlab.workshop.jupyter"),
            env=os.environ | environment() | temporary,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise KvlabError(f"no answer within {seconds:.0f} s") from None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["it ended without a message"]
        raise KvlabError(last[0])


def main() -> None:
    """Run one cell in the kernel that a notebook would get; fail unless it is this Python's."""
    from jupyter_client.manager import start_new_kernel

    try:
        manager, client = start_new_kernel(kernel_name="python3")
    except RuntimeError as problem:
        sys.exit(str(problem))
    printed: list[str] = []
    try:
        client.execute_interactive(
            "import sys; print(sys.prefix)",
            output_hook=lambda message: printed.append(message["content"].get("text", "")),
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    where = "".join(printed).strip()
    if where != sys.prefix:
        sys.exit(f"the kernel runs in {where}, not in {sys.prefix}")
