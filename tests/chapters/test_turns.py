"""Variants take turns, and the runs of a variant become one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvlab.chapters.turns import in_turns, median_ratio, merged
from kvlab.instruments import Result, Uniform, experiment


def test_runs_take_turns_and_join_into_one_result() -> None:
    order: list[str] = []

    def run(name: str) -> Result:
        order.append(name)
        outcomes = iter(["found", "missing"] * 5)
        made = experiment(lambda _: next(outcomes), Uniform(3), seed=1, count=10, progress=False)
        return replace(made, violations=made.counts["missing"])

    runs = in_turns({"a": lambda: run("a"), "b": lambda: run("b")}, turns=3)
    assert order == ["a", "b"] * 4
    whole = merged(runs["a"])
    assert (len(runs["a"]), whole.violations) == (3, 15)
    assert whole.counts == {"found": 15, "missing": 15}
    assert whole.latency.max == max(result.latency.max for result in runs["a"])
    assert median_ratio(runs, "a", "a") == 1
    assert median_ratio(runs, "a", "b") == pytest.approx(1 / median_ratio(runs, "b", "a"))
    unchecked = replace(runs["b"][0], violations=None)
    assert merged([runs["b"][1], unchecked]).violations is None
