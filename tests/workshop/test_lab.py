"""``kvlab lab`` where people are: as root, without a browser, beside a broken Jupyter."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from nbformat.sign import NotebookNotary

from kvlab.errors import KvlabError
from kvlab.workshop import doctor, jupyter, lab

SECONDS = 120.0
BROKEN_KERNEL = {"argv": ["/bin/false"], "display_name": "broken", "language": "python"}


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kv", dir="/tmp"))  # socket paths must be short
    monkeypatch.setenv("KVLAB_RUNTIME_DIR", str(path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(path / "jupyter-runtime"))
    for name in ("KVLAB_URL", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def broken_kernel(folder: Path) -> Path:
    """A folder for JUPYTER_PATH whose ``python3`` does not start."""
    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps(BROKEN_KERNEL))
    return folder


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """``kvlab lab`` in a folder, and the file that its output goes to."""
    log = folder / "lab.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "kvlab", "lab", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process, log
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in [*psutil.Process(process.pid).children(recursive=True), process]:
                one.kill()
        process.wait()


def address(process: subprocess.Popen[bytes], log: Path) -> str:
    """The address that JupyterLab prints."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for word in log.read_text(errors="replace").split():
            if word.startswith("http://127.0.0.1:") and "token=" in word:
                return word
        time.sleep(0.05)
    raise AssertionError(f"no address was printed:\n{log.read_text(errors='replace')}")


def ask(address: str, path: str, data: bytes | None = None, method: str | None = None) -> bytes:
    base, _, token = address.partition("/lab/tree/")
    request = urllib.request.Request(f"{base}{path}", data, method=method)
    request.add_header("Authorization", "token " + token.partition("token=")[2])
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.read()
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError:  # the address is printed just before JupyterLab listens
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_lab_opens_a_working_copy_and_leaves_nothing_running(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with a space, beside a broken kernelspec, until Ctrl-C."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.setenv("JUPYTER_PATH", str(broken_kernel(tmp_path / "foreign")))
    with running(folder) as (process, log):
        shown = address(process, log)
        assert "/lab/tree/00_start_here.ipynb?token=" in shown
        assert b"JupyterLab" in ask(shown, "/lab/tree/00_start_here.ipynb")
        listed = {item["name"] for item in json.loads(ask(shown, "/api/contents"))["content"]}
        assert {"00_start_here.ipynb", "exercises"} <= listed
        assert not listed & {"source", "solutions"}
        tabs = b'{"data": {}, "metadata": {"id": "default"}}'
        ask(shown, "/lab/api/workspaces/default", tabs, "PUT")
        kernel = json.loads(ask(shown, "/api/kernels", b'{"name": "python3"}'))
        assert kernel["name"] == "python3"
        processes = psutil.Process(process.pid).children(recursive=True)
        assert any("ipykernel_launcher" in command_of(one) for one in processes)
        for _ in range(3):  # an impatient user
            process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        assert still_running(processes) == []
    copy = folder / "kvlab-workbook"
    assert (copy / "00_start_here.ipynb").is_file()
    # Another copy in the same home begins with tabs of its own.
    assert [*(copy / ".jupyterlab-workspaces").glob("*.jupyterlab-workspace")]


def test_a_taken_port_is_passed_over_and_sigterm_ends_the_lab(
    runtime: Path, tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with running(tmp_path, f"--port={port}") as (process, log):
            shown = address(process, log)
            assert int(shown.split(":")[2].split("/")[0]) != port
            assert ask(shown, "/api/status")
            processes = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
            assert still_running(processes) == []


KILLED = """
import sys, time
from pathlib import Path
from kvlab.workshop import lab

sys.executable = sys.argv[1]
print(lab.start(Path(), [], {}).pid, flush=True)
time.sleep(600)
"""


def test_a_lab_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    sleeper = tmp_path / "python"  # stands for JupyterLab
    sleeper.write_text("#!/bin/sh\nexec sleep 600\n")
    sleeper.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(sleeper)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    assert still_running([child]) == []


def command_of(process: psutil.Process) -> str:
    """Its command line; empty when the process has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, SECONDS)
    return alive


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    commands: list[list[str]] = []
    monkeypatch.setattr(lab, "Guarded", lambda command, **_: commands.append(command))
    return commands


def started(
    monkeypatch: pytest.MonkeyPatch, arguments: Sequence[str] = (), env: Mapping[str, str] = {}
) -> list[str]:
    commands = recorded(monkeypatch)
    lab.start(Path(), arguments, env)
    return commands[0]


def test_root_is_allowed_and_nobody_else_needs_to_be(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user, allowed in ((0, True), (1000, False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        command = started(monkeypatch)
        assert ("--allow-root" in command) == allowed
        assert command[-1] == "--ServerApp.ip=127.0.0.1"


def test_server_and_kernel_encrypt_where_both_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise each kernel warns of eavesdropping at its start."""
    option = "--KernelManager.transport_encryption=auto"
    assert option in started(monkeypatch)
    specs = KernelSpecManager(kernel_dirs=[str(jupyter.FILES / "kernels")])
    assert specs.get_kernel_spec("python3").metadata["supported_encryption"] == ["curve"]
    monkeypatch.setattr("zmq.has", lambda feature: False)
    assert option not in started(monkeypatch)


def test_a_browser_is_opened_where_there_is_a_screen(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert "--no-browser" in started(monkeypatch)
    assert started(monkeypatch, ["--no-browser"]).count("--no-browser") == 1
    monkeypatch.setenv("DISPLAY", ":0")
    assert "--no-browser" not in started(monkeypatch)


def test_folders_that_can_be_written_to_stay_the_users_own(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    environment = jupyter.environment()
    assert environment["JUPYTER_DATA_DIR"] == str(tmp_path / "data")
    assert environment["IPYTHONDIR"] == str(tmp_path / "ipython")


def test_folders_that_cannot_be_written_to_lie_beside_the_server(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != home and may(path, mode))
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    environment = jupyter.environment()
    for other in ("JUPYTER_PATH", "KVLAB_RUNTIME_DIR"):
        environment.pop(other)
    for name, folder in environment.items():
        assert folder == str(runtime / "jupyter" / name.lower())
        assert Path(folder).is_dir()


def test_a_relative_place_of_the_server_is_the_same_for_a_kernel(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runtime.parent)
    monkeypatch.setenv("KVLAB_RUNTIME_DIR", runtime.name)
    assert jupyter.environment()["KVLAB_RUNTIME_DIR"] == str(runtime)


def test_our_kernelspec_comes_first(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PATH", "/foreign")
    assert jupyter.environment()["JUPYTER_PATH"] == f"{jupyter.FILES}{os.pathsep}/foreign"


def test_a_trusted_notebook_is_trusted_by_the_users_jupyter(tmp_path: Path) -> None:
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    nbformat.write(book, tmp_path / "a.ipynb")
    jupyter.trust([], tmp_path / "data")
    notary = NotebookNotary(data_dir=str(tmp_path / "data"))
    assert not notary.check_signature(nbformat.read(tmp_path / "a.ipynb", 4))
    jupyter.trust([tmp_path / "a.ipynb"], tmp_path / "data")
    assert notary.check_signature(nbformat.read(tmp_path / "a.ipynb", 4))


def test_a_kernel_that_does_not_start_makes_the_doctor_unhealthy(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jupyter, "FILES", broken_kernel(tmp_path))
    with pytest.raises(KvlabError, match="Kernel died"):
        jupyter.try_kernel(tmp_path, SECONDS)


def test_what_does_not_answer_in_time_is_broken(runtime: Path, tmp_path: Path) -> None:
    for attempt in (jupyter.try_kernel, lab.try_lab):
        with pytest.raises(KvlabError, match="within 0 s"):
            attempt(tmp_path, 0.01)


def test_the_doctor_says_which_part_of_jupyter_is_broken(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KvlabError("no memory today")

    monkeypatch.setattr(lab, "try_lab", broken)
    monkeypatch.setattr(jupyter, "try_kernel", lambda *_: None)
    kernel, page = doctor.jupyter_works()
    assert (kernel.state, page.state) == (doctor.State.OK, doctor.State.BROKEN)
    assert page.remedy == "the lab does not start: no memory today"
