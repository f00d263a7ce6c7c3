"""The names by which a timeline shows scripts.

A script of kvlab has the name of its file. Any other has the words of its first comment, or else a
part of its SHA-1 and the commands that it calls: ``script 5d4f81 (GET, DEL)``.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from importlib import resources

from kvlab.core.op import Script

SCRIPT_COMMANDS = {b"EVALSHA", b"EVALSHA_RO", b"EVAL", b"EVAL_RO"}
_COMMENT = re.compile(rb"^\s*--(?:\[=*\[)?[\s\-=*#]*(.*?)[\s\-=*#]*(?:\]=*\])?\s*$", re.MULTILINE)
_SAYS_NOTHING = re.compile(r"\W*$|(KEYS|ARGV|luacheck|ruff|noqa|local)\b", re.IGNORECASE)
_CALLED = re.compile(rb"""redis\.p?call\(\s*['"](\w+)['"]""")
_LONGEST, _MOST = 40, 4


@functools.cache
def script_name(given: bytes, source: bytes | None = None) -> str:
    """Of the script that EVAL or EVALSHA was given; ``source`` is the text that a SHA-1 stands for,
    where it is known."""
    by_sha = re.fullmatch(rb"[0-9a-fA-F]{40}", given)
    sha = given.decode().lower() if by_sha else _sha(given)
    source = source if by_sha else given
    if own := _own_scripts().get(sha):
        return own
    called = dict.fromkeys(name.decode().upper() for name in _CALLED.findall(source or b""))
    for comment in _COMMENT.findall((source or b"").partition(b"redis.")[0]):
        said = comment.decode("utf-8", "replace").strip(" .:")
        if not _SAYS_NOTHING.match(said):
            return f'"{said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"}"'
    calls = ", ".join([*called][:_MOST]) + ", …" * (len(called) > _MOST)
    return f"script {sha[:6]}" + (f" ({calls})" if calls else "")


def _sha(source: bytes) -> str:
    return hashlib.sha1(source, usedforsecurity=False).hexdigest()


@functools.cache
def _own_scripts() -> Mapping[str, str]:
    rooms = [room for room in resources.files("kvlab").iterdir() if room.is_dir()]
    files = [(room, file.name) for room in rooms for file in room.iterdir()]
    return {
        Script.load(f"{room.name}/{name.removesuffix('.lua')}").sha: name
        for room, name in files
        if name.endswith(".lua")
    }
