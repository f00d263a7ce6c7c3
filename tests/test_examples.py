"""Each pattern's docstring has an example; the examples are run, on the embedded server."""

from __future__ import annotations

import doctest
import importlib
from collections.abc import Iterator

import pytest
from support import fresh_prefix

import kvlab
from kvlab.server.engines import RunningServer

PATTERNS = (
    "cache_aside",
    "write_through",
    "rate_limiting",
    "sessions",
    "distributed_lock",
    "leaderboard",
    "pipeline",
    "feature_flags",
)


@pytest.fixture
def namespace(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``kvlab.connect()`` of the examples: the tests' server, in a namespace of its own."""
    monkeypatch.setenv("KVLAB_URL", server.url)
    monkeypatch.setenv("KVLAB_PREFIX", fresh_prefix())
    yield
    with kvlab.connect() as mine:
        mine.clear()


def docstring(pattern: str) -> str:
    return importlib.import_module(f"kvlab.{pattern}").__doc__ or ""


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_says_what_it_promises_and_what_it_does_not(pattern: str) -> None:
    words = ("Guarantee", "Example::\n", "Key", "Not promised:")
    places = [docstring(pattern).find(word) for word in words]
    assert -1 not in places, dict(zip(words, places, strict=True))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_example_gives_what_it_shows(pattern: str, namespace: None) -> None:
    example = doctest.DocTestParser().get_doctest(docstring(pattern), {}, pattern, None, None)
    assert len(example.examples) >= 4, "the docstring has no example"
    assert all(not shown.options for shown in example.examples), "nothing is skipped"
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False)
    result = runner.run(example, out=said.append, clear_globs=True)
    assert result.failed == 0, "".join(said)
