"""The name by which a timeline shows a script of somebody else."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from kvlab.instruments import explore
from kvlab.instruments.explorer.timeline.scripts import script_name

CALLS = "local n = redis.call('GET', KEYS[1])\nif n then redis.pcall(\"del\", KEYS[1]) end"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("-- Take one token, if there is one.\n" + CALLS, '"Take one token, if there is one"'),
        ("--[[ Release the lock ]]\n" + CALLS, '"Release the lock"'),
        ("-----\n-- KEYS[1]: a name\n-- ARGV: none\n-- Free\n" + CALLS, '"Free"'),
        ("-- " + "long " * 20 + "\n" + CALLS, '"' + ("long " * 20)[:39] + '…"'),
        (CALLS + "\n-- not the first words", "script {sha} (GET, DEL)"),
        (CALLS, "script {sha} (GET, DEL)"),
        ("".join(f"redis.call('{c}', 1) " for c in "ABCDE"), "script {sha} (A, B, C, D, …)"),
        ("return 1", "script {sha}"),
    ],
)
def test_a_script_has_the_words_of_its_comment_or_what_it_calls(source: str, name: str) -> None:
    sha = hashlib.sha1(source.encode()).hexdigest()
    assert script_name(source.encode()) == name.format(sha=sha[:6])
    assert script_name(sha.encode(), source.encode()) == script_name(source.encode())
    assert script_name(sha.encode()) == f"script {sha[:6]}"


def test_a_timeline_names_a_script_however_it_is_called() -> None:
    def client(kv: Any) -> None:
        script = kv.register_script("-- Add one\nreturn redis.call('INCR', KEYS[1])")
        script(keys=["n"])
        kv.pipeline().evalsha(script.sha, 1, "n").incr("n").execute()
        kv.script_load("-- Take one\nreturn redis.call('DECR', KEYS[1])")

    said = str(explore([client], invariant=lambda _: False))
    assert '"Add one" n → 1' in said
    assert 'MULTI "Add one" n; INCRBY n 1 EXEC' in said
    assert 'SCRIPT LOAD "Take one" → ' in said
