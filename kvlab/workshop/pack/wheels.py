"""The wheels that ``kvlab[lab]`` needs on a target: what they are, and which do not exist.

pip reads the markers of a requirement for the machine it runs on, whatever ``--platform`` says. So
the requirements of each wheel are read and judged here, and pip only downloads what it is told.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from kvlab.errors import KvlabError
from kvlab.workshop.pack.target import Target

Need = tuple[str, str]
"""A package and one of its extras; "" for the package alone."""
Fetch = Callable[[Target, Sequence[Requirement]], Collection[str]]
"""Lays wheels for a target into the folder; returns the names of those that do not exist."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one target needs. ``missing``: as "name==version (needed by …)"."""

    target: Target
    names: frozenset[str]
    missing: tuple[str, ...]

    @property
    def usable(self) -> bool:
        return not self.missing


def pins_of(lock: str) -> list[Requirement]:
    """The pinned requirements of a ``requirements.txt``."""
    lines = (line.partition(" #")[0].strip() for line in lock.splitlines())
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def find(
    target: Target,
    folder: Path,
    pins: Sequence[Requirement],
    fetch: Fetch,
    guess: frozenset[str] = frozenset(),
) -> Found:
    """Fetch all that ``kvlab[lab]`` needs there. kvlab's own wheel lies in ``folder`` already.

    ``guess``: names that are fetched with the first wave, since other targets needed them. Raises
    KvlabError for a requirement without a pin.
    """
    pinned: dict[str, list[Requirement]] = {}
    for pin in pins:
        if target.holds(pin):
            pinned.setdefault(canonicalize_name(pin.name), []).append(pin)
    needed_by: dict[str, str] = {}
    absent, fetched, seen = set[str](), {"kvlab"}, set[Need]()
    wave: set[Need] = {("kvlab", ""), ("kvlab", "lab")}
    while wave:
        new = ({name for name, _ in wave} | (guess & set(pinned))) - fetched
        if bare := sorted(new - set(pinned)):
            raise KvlabError(f"requirements.txt has no {', '.join(bare)}; {target} needs it")
        if new:
            absent |= set(fetch(target, [pin for name in sorted(new) for pin in pinned[name]]))
        fetched |= new
        seen |= wave
        after = set[Need]()
        for name, extra in sorted(wave):
            wheels = [] if name in absent else _wheels(folder, name, pinned.get(name, ()))
            for requirement in _requirements(wheels):
                if target.holds(requirement, [extra]):
                    needs = canonicalize_name(requirement.name)
                    needed_by.setdefault(needs, name)
                    after |= {(needs, one) for one in ("", *requirement.extras)}
        wave = after - seen
    names = frozenset(name for name, _ in seen)
    missing = (f"{name} (needed by {needed_by[name]})" for name in sorted(absent & names))
    return Found(target, names, tuple(missing))


def _wheels(folder: Path, name: str, pins: Sequence[Requirement]) -> list[Path]:
    """The wheels of a package, in the versions of its pins; without pins in any version."""
    found = []
    for path in folder.glob("*.whl"):
        of, version, _, _ = parse_wheel_filename(path.name)
        if of == name and all(version in pin.specifier for pin in pins[:1]):
            found.append(path)
    return found


def _requirements(wheels: Sequence[Path]) -> list[Requirement]:
    """Wheels of one version say the same on every platform; what any of them says counts."""
    lines = {line for path in wheels for line in _metadata(path).get_all("Requires-Dist") or ()}
    return [Requirement(line) for line in sorted(lines)]


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as opened:
        name = next(n for n in opened.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(opened.read(name).decode())
