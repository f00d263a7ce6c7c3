"""The command line and its doctor: what they print, and what they return."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from kvlab import cli
from kvlab.core.server_url import REST_NAMES
from kvlab.rest_gateway import ServedGateway
from kvlab.server import embedded, engines, running_server
from kvlab.workshop import doctor, doctor_screen
from kvlab.workshop.doctor import Diagnosis, Report, State

ROOT = Path(__file__).parent.parent


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="kv", dir="/tmp"))  # socket paths must be short
    monkeypatch.setenv("KVLAB_RUNTIME_DIR", str(path))
    monkeypatch.delenv("KVLAB_URL", raising=False)
    yield path
    shutil.rmtree(path)


def kvlab(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvlab", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )


def blocking(directory: Path, package: str) -> dict[str, str]:
    (directory / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
    return {"PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"}


def test_the_doctor_finds_a_working_place_healthy(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where HOME cannot be written to: a kernel runs a cell, the lab answers, HOME stays empty."""
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    if os.access(home, os.W_OK):  # root writes everywhere, but no folder lies in a file
        home.rmdir()
        home.touch()
    for name in [*os.environ]:
        if name.startswith(("JUPYTER", "IPYTHON", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    done = kvlab("doctor")
    assert home.is_file() or list(home.iterdir()) == []
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything that the workbook needs works." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "\x1b" not in done.stdout  # not a terminal
    for section in ("Python", "Packages", "Engines", "Embedded server", "Server in use", "Jupyter"):
        assert section in done.stdout.splitlines()


@pytest.fixture
def diagnosed(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[], tuple[int, str]]]:
    """The doctor in this process, without its look at engines and Jupyter: (exit status, what it
    prints)."""
    monkeypatch.setattr(doctor, "jupyter_works", tuple)
    monkeypatch.setattr(doctor, "_engine", lambda engine: Diagnosis(engine.name, State.OK, ""))
    yield lambda: (doctor_screen.show_doctor(), capsys.readouterr().out)
    embedded.leave()


def test_the_doctor_says_what_to_do_and_hides_the_password(
    diagnosed: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable = f"redis://user:hush@127.0.0.1:{running_server.free_port()}/0"
    monkeypatch.setenv("KVLAB_URL", unreachable)
    status, printed = diagnosed()
    assert status == 1
    assert "hush" not in printed
    assert "user:***@127.0.0.1" in printed
    assert "start that server, correct KVLAB_URL, or unset it" in printed


@pytest.mark.parametrize("token", ["", "a-wrong-token"])
def test_the_doctor_asks_a_store_behind_http(
    diagnosed: Callable[[], tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    gateway: ServedGateway,
    token: str,
) -> None:
    monkeypatch.setenv("KV_REST_API_URL", gateway.url)
    monkeypatch.setenv("KV_REST_API_TOKEN", token or gateway.token)
    status, printed = diagnosed()
    used = printed.partition("Server in use")[2]
    assert f"KV_REST_API_URL {gateway.url}" in " ".join(used.split())
    wrong = bool(token)
    assert ("over HTTP" in used, "WRONGPASS" in used, bool(status)) == (not wrong, wrong, wrong)
    assert gateway.token not in printed
    assert "a-wrong-token" not in printed


def test_the_doctor_does_not_try_a_remote_server_without_a_yes(
    diagnosed: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVLAB_URL", "redis://redis.example.com")
    status, printed = diagnosed()
    assert status == 1
    assert "redis.example.com is not this machine" in printed
    assert "first PING" not in printed.partition("Server in use")[2]


def test_a_missing_package_names_the_command_that_brings_it(
    diagnosed: Callable[[], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "filelock", None)
    status, printed = diagnosed()
    assert status == 1
    assert 'pip install "kvlab[lab]"' in printed


def test_without_typer_there_is_one_clear_line(tmp_path: Path) -> None:
    done = kvlab("doctor", env=blocking(tmp_path, "typer"))
    assert done.returncode == 1
    assert done.stderr == 'the kvlab command needs typer: pip install "kvlab[lab]"\n'


def test_an_unusable_directory_is_one_line_not_a_traceback(runtime: Path, tmp_path: Path) -> None:
    runtime.chmod(0o755)
    done = kvlab("lab", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("kvlab: ")
    assert "chmod 700" in done.stderr
    assert "Traceback" not in done.stderr


def test_lab_joins_the_server_lays_a_copy_and_passes_options_on(
    runtime: Path, tmp_path: Path
) -> None:
    done = kvlab("lab", "--version", "--folder", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"at unix://{runtime}/valkey.sock" in done.stdout
    assert f"new files in {tmp_path}/mine" in done.stdout
    assert done.stdout.splitlines()[-1][0].isdigit()  # JupyterLab's version


@pytest.fixture
def typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[[str], tuple[int, str]]:
    """A command line in this process and an empty folder: (exit status, what stderr says)."""
    for name, _ in REST_NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["kvlab", *words.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


PORT = "must be a whole number from 0 to 65535, not"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        *(
            (f"{command} --port {port}", f"{PORT} {shown}")
            for command in ("lab", "room", "rest")
            for port, shown in (("70000", "70000"), ("-1", "-1"), ("abc", "'abc'"))
        ),
        ("lab --ServerApp.port=70000", f"--ServerApp.port {PORT} 70000"),
        ("load --web --web-port 70000", f"--web-port {PORT} 70000"),
        ("load --worker --master-port=abc", f"--master-port {PORT} 'abc'"),
        ("load -P", f"-P {PORT} ''"),
        ("load --users 0", "'--users': must be a whole number of at least 1, not 0"),
        ("load --users 1.5", "must be a whole number of at least 1, not '1.5'"),
        ("bench --seed -1", "'--seed': must be a whole number of at least 0, not -1"),
        ("load --time 3x", "the time must be like 30s, 2m or 1h30m, not '3x'"),
        ("check 99", "no exercises for chapter '99'; there are: 01, 02, 03, "),
        ("check 05 shrt", "no exercise '05-shrt'; there are 01, 02, 03, "),
        ("progress --all", "No such option: --all; see kvlab progress --help"),
        ("reset-notebook", "Missing argument 'name'; see kvlab reset-notebook --help"),
        ("nosuch", "No such command 'nosuch'; see kvlab --help"),
        ("chek", "No such command 'chek'. Did you mean 'check'; see kvlab --help"),
    ],
)
def test_wrong_usage_is_one_line(
    typed: Callable[[str], tuple[int, str]], words: str, says: str
) -> None:
    status, said = typed(words)
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("kvlab: ")
    assert says in said


@pytest.mark.parametrize(
    "words", ["reset --yes", "lab --no-browser", "room --port 0", "bench", "rest --port 0"]
)
def test_a_server_that_is_not_there_is_one_line_with_what_to_do(
    typed: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    nobody = f"redis://127.0.0.1:{running_server.free_port()}"
    if words == "bench":  # it has a server of its own unless it is told another
        words, to_do = f"bench --url {nobody}", "start that server, or correct --url"
    else:
        monkeypatch.setenv("KVLAB_URL", nobody)
        to_do = "start that server, correct KVLAB_URL, or unset it"
    status, said = typed(words)
    assert (status, said.count("\n")) == (1, 1)
    assert "nothing was sent" in said
    assert said.endswith(f"; {to_do}\n")


@pytest.mark.parametrize("words", ["lab --no-browser", "room --port 0", "rest --port 0"])
def test_a_broken_url_of_the_environment_is_named(
    typed: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("KVLAB_URL", "nonsense")
    status, said = typed(words)
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("kvlab: environment variable KVLAB_URL: not a Redis URL")


def test_a_server_that_lets_nobody_in_is_named(
    typed: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with engines.start("valkey", options={"requirepass": "sesame"}) as server:
        url = f"redis://:wrong@127.0.0.1:{server.port}"
        monkeypatch.setenv("KVLAB_URL", url)
        for words in ("lab --no-browser", "room --port 0", "rest --port 0", "reset --yes"):
            status, said = typed(words)
            assert (status, said.count("\n")) == (1, 1)
            assert said.startswith("kvlab: WRONGPASS ")
            assert said.endswith("; correct KVLAB_URL\n")
        assert typed(f"room --port 0 --server {url}")[1].endswith("; correct --server\n")


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_a_no_is_no_interrupt(
    typed: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    monkeypatch.setenv("KVLAB_URL", "redis://127.0.0.1:1")  # nothing is sent before a yes
    assert typed("reset") == (1, "kvlab: nothing was removed\n")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        ("check", 1, "no exercise notebooks in "),
        ("progress", 1, "there is no copy of the workbook in "),
        ("reset-notebook 99", 2, "no notebook begins with '99'"),
    ],
)
def test_without_a_copy_none_is_made_and_that_is_said(
    typed: Callable[[str], tuple[int, str]], tmp_path: Path, words: str, status: int, says: str
) -> None:
    ended, said = typed(words)
    assert (ended, said.startswith(f"kvlab: {says}")) == (status, True), said
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_one_line(
    typed: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvlab.workshop.learner.saved.check_saved", stopped)
    assert typed("check") == (130, "\nkvlab: stopped\n")


def test_sigterm_ends_a_command_in_order(
    typed: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stopped(*_: object, **__: object) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path):
            if (child := os.fork()) == 0:
                signal.raise_signal(signal.SIGTERM)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == signal.SIGTERM  # a child removes nothing of ours
            assert list(tmp_path.iterdir())
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("kvlab.workshop.learner.saved.check_saved", stopped)
    assert typed("check") == (143, "")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("begin", ["-c import kvlab_command as it; it.main()", "-m kvlab"])
def test_ctrl_c_amid_the_imports_prints_nothing(tmp_path: Path, begin: str) -> None:
    (tmp_path / "redis.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, *begin.split(" ", 1)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_a_changed_notebook_comes_back_in_one_command(tmp_path: Path) -> None:
    copy = tmp_path / "kvlab-workbook"
    assert kvlab("reset-notebook", "03", cwd=tmp_path).returncode == 0
    (copy / "03_rate_limiting.ipynb").write_text("mine")
    done = kvlab("reset-notebook", "03", cwd=copy)
    assert "yours is 03_rate_limiting.mine-1.ipynb now" in done.stdout
    assert (copy / "03_rate_limiting.mine-1.ipynb").read_text() == "mine"
    released = ROOT / "notebooks" / "03_rate_limiting.ipynb"
    assert (copy / "03_rate_limiting.ipynb").read_bytes() == released.read_bytes()
    assert "no notebook begins with 'x'" in kvlab("reset-notebook", "x", cwd=copy).stderr


def test_lab_says_at_once_that_its_server_cannot_be_used(
    typed: Callable[[str], tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVLAB_URL", "redis://redis.example.com:6379/0")
    status, said = typed("lab --no-browser")
    assert status == 1
    assert said.startswith("kvlab: redis.example.com is not this machine")


def test_abilities_are_tried_on_the_server() -> None:
    with engines.start("valkey") as server, server.client() as client:
        assert all(doctor.probe(client).values())
    old = engines.find("redis-6.2")
    if old.missing is None:
        with engines.start(old.name) as server, server.client() as client:
            can = [name for name, has in doctor.probe(client).items() if has]
        assert can == ["Lua"]


def test_a_broken_diagnosis_makes_the_report_unhealthy() -> None:
    fine = Diagnosis("a", State.OK, "1")
    absent = Diagnosis("b", State.NOTE, "absent")
    broken = Diagnosis("c", State.BROKEN, "gone", "bring it back")
    assert Report({"x": (fine, absent)}).healthy
    report = Report({"x": (fine, broken), "y": (broken,)})
    assert not report.healthy
    assert report.remedies == ("bring it back",)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:hush@h:1/0", "redis://:***@h:1/0"),
        ("rediss://me:hu@sh@h:1", "rediss://me:***@h:1"),
        ("redis://me@h:1", "redis://me@h:1"),
        ("redis://h:1/0?password=hush&db=2", "redis://h:1/0?password=***&db=2"),
        ("unix:///run/s.sock?password=hush", "unix:///run/s.sock?password=***"),
        ("redis://[hush", "not a URL (quote special characters of a password, as in %23)"),
        ("redis://:hu#sh@h:1", "not a URL (quote special characters of a password, as in %23)"),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert doctor.masked(url) == shown
