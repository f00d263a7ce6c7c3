"""``kvlab lab``: the embedded server, a working copy, and JupyterLab on loopback until it ends."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import kvlab
from kvlab.errors import KvlabError
from kvlab.server import embedded
from kvlab.server.guarded_process import Guarded
from kvlab.server.running_server import free_port
from kvlab.workshop import jupyter
from kvlab.workshop.learner.membership import leave, taking_part
from kvlab.workshop.workbook import FIRST_CHAPTER, WorkingCopy, working_copy

_END_SECONDS = 30.0
_TABS = "JUPYTERLAB_WORKSPACES_DIR"
_HIDDEN = {"source", "solutions", "__pycache__", "*.pyc", "*~", ".DS_Store"}


def open_lab(
    arguments: Sequence[str], folder: Path | None = None, room: str | None = None, name: str = ""
) -> int:
    """Open the working copy in JupyterLab, wait for its end, return its exit status.

    ``arguments`` are JupyterLab's own. ``folder`` is the working copy's, when it is not the usual
    one. With ``room``, an address that ``kvlab room`` has printed, the progress of the copy is
    shown there under ``name`` as long as the lab runs. Raises :class:`KvlabError` when the server
    in use or the folder cannot be used, and when the room refuses.
    """
    copy = WorkingCopy(folder.resolve()) if folder else working_copy(Path.cwd())
    if room is None:
        say(_server_in_use())
        _lay(copy)
        leave(copy)
    else:
        _lay(copy)
        os.environ |= taking_part(copy, room, name or getpass.getuser()).environment
        say(f"your results, and no code of yours, are shown in the room at {room}")
        say(_server_in_use())
    environment = jupyter.environment()
    # JupyterLab keeps open tabs by home directory: it would open those of another copy here.
    environment[_TABS] = os.environ.get(_TABS) or str(copy.folder / ".jupyterlab-workspaces")
    jupyter.trust(
        [path for path in copy.unchanged() if path.suffix == ".ipynb"],
        Path(environment["JUPYTER_DATA_DIR"]),
    )
    say("JupyterLab starts, and prints its address; Ctrl-C ends it and its kernels")
    lab = start(copy.folder, arguments, environment)
    ends = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    for number in ends:
        signal.signal(number, signal.default_int_handler)
    try:
        return lab.process.wait()
    except KeyboardInterrupt:
        for number in ends:
            signal.signal(number, signal.SIG_IGN)
        end(lab)
        return 0


def end(lab: Guarded) -> None:
    """End JupyterLab and its kernels: once in good order, then by force."""
    lab.signal(signal.SIGTERM)  # a second SIGTERM would end JupyterLab before its kernels
    with contextlib.suppress(subprocess.TimeoutExpired):
        lab.process.wait(_END_SECONDS)
    lab.end()


def say(text: str) -> None:
    print(text, flush=True)


def _server_in_use() -> str:
    """Which server the notebooks will use; what is wrong with it shows here, not in a cell."""
    if os.environ.get("KVLAB_URL"):
        with kvlab.connect() as kv:
            kv.run(kvlab.Op("PING"))
            return f"the notebooks use the server at {kv.where}"
    joined = embedded.join()
    return "\n".join(
        filter(None, [f"{joined.engine} {joined.version} at {joined.url}", joined.note])
    )


def _lay(copy: WorkingCopy) -> None:
    done = copy.lay()
    what = f"{done.new} new files" if done.new else "your working copy"
    say(f"{what} in {copy.folder}" + (f", {done.updated} updated" if done.updated else ""))
    for name in done.outdated:
        number = Path(name).name[:2]
        say(f"{name} is yours and stays; the new release's version: kvlab reset-notebook {number}")


def start(
    folder: Path, arguments: Sequence[str], environment: Mapping[str, str], *, quiet: bool = False
) -> Guarded:
    """Start JupyterLab in ``folder``, on loopback, as it works here: as root, without a browser.

    JupyterLab ends with this process, by kill -9 too; its kernels end with JupyterLab.
    """
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        f"--LabApp.default_url=/lab/tree/{FIRST_CHAPTER}",
    ]
    # Works offline: no news, no look for updates, so no question about them on thirty laptops.
    command.append(f"--LabApp.app_settings_dir={jupyter.LAB_SETTINGS}")
    command += [f"--ContentsManager.hide_globs={name}" for name in sorted(_HIDDEN)]
    if jupyter.encrypts():
        command.append("--KernelManager.transport_encryption=auto")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # on loopback, with a token
    if not _has_browser() and "--no-browser" not in arguments:
        command.append("--no-browser")
    if not any(word.startswith(("--log-level", "--debug")) for word in arguments):
        command.append("--log-level=WARN")
    command += [*arguments, "--ServerApp.ip=127.0.0.1"]
    # In a session of its own: Ctrl-C reaches us alone, and we end JupyterLab once.
    log = Path(os.devnull) if quiet else None
    return Guarded(command, log=log, directory=folder, env=environment)


def _has_browser() -> bool:
    if sys.platform != "linux":
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def try_lab(folder: Path, seconds: float) -> None:
    """Start JupyterLab in ``folder``, ask it for a page, end it. Raises :class:`KvlabError`."""
    environment = jupyter.environment()
    # Two labs that begin at once take the same port, the next to the usual one, and one ends.
    port = f"--port={free_port()}"
    lab = start(folder, ["--no-browser", "--log-level=CRITICAL", port], environment, quiet=True)
    file = Path(environment["JUPYTER_RUNTIME_DIR"]) / f"jpserver-{lab.pid}.json"
    deadline = time.monotonic() + seconds
    try:
        while not _answers(file):
            if lab.has_ended():
                status = lab.process.returncode
                raise KvlabError(f"JupyterLab ended at its start, exit status {status}")
            if time.monotonic() > deadline:
                raise KvlabError(f"JupyterLab did not answer within {seconds:.0f} s")
            time.sleep(0.05)
    finally:
        end(lab)


def _answers(file: Path) -> bool:
    """Whether the server answers a page; JupyterLab writes its address to ``file``."""
    try:
        server = json.loads(file.read_text(encoding="utf-8"))
        page = f"{server['url']}lab?token={server['token']}"
        with urllib.request.urlopen(page, timeout=_END_SECONDS):
            return True
    except (FileNotFoundError, json.JSONDecodeError):
        return False  # absent yet, or half written
    except urllib.error.HTTPError as problem:
        raise KvlabError(f"JupyterLab answered with status {problem.code}") from None
    except OSError:
        return False  # JupyterLab writes the file just before it listens
