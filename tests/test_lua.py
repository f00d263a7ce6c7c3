"""Each script's header names exactly the KEYS and ARGV that its body uses, and what it returns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kvlab

PACKAGE = Path(kvlab.__file__).parent
SCRIPTS = sorted(PACKAGE.rglob("*.lua"))


def named(path: Path) -> str:
    """``<pattern>/<verb>``: what ``Script.load`` is given."""
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def parts(path: Path) -> tuple[str, str]:
    """The comment lines at the top, and the code without comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    top = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:top]), "\n".join(line.split("--")[0] for line in lines[top:])


def numbered(text: str, start: str = "") -> set[tuple[str, str]]:
    return set(re.findall(rf"{start}(KEYS|ARGV)\[(\d+)\]", text))


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_the_header_says_what_the_body_uses(path: Path) -> None:
    header, body = parts(path)
    named, used = numbered(header, "-- "), numbered(body)
    # A script may be told what its order makes plain, such as the rule that others follow.
    assert used <= named
    unused = {name for name in named - used if name[0] == "KEYS"}
    assert not unused
    if computed := re.search(r"(KEYS|ARGV)\[[^\]\d][^\]]*\]", body):
        assert re.search(rf"-- {computed[1]}( |\[\d+…\]|\[#\])", header), "says no range"
    assert re.search(r"^-- Returns \S", header, re.MULTILINE)


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_a_script_lies_beside_the_pattern_that_uses_it(path: Path) -> None:
    assert path.parent.parent == PACKAGE, "a script lies in the room of its pattern"
    sources = "".join(p.read_text(encoding="utf-8") for p in path.parent.glob("*.py"))
    assert f'"{named(path)}"' in sources, "nothing in this room loads it"


def test_there_are_scripts() -> None:
    assert len(SCRIPTS) > 20
