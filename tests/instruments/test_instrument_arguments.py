"""Every argument of another kind is refused where it is given, with its name and the value."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from support.models import Register

import kvlab.instruments as instruments
from kvlab.errors import InvalidArgument
from kvlab.instruments import charts, theory

NAN = float("nan")
FLAG = ("no", 1, 0, None)
COUNT = ("3", 2.5, True, -1, None, [1])
NUMBER = ("1", True, NAN, None, [1.0])
FUNCTION = (5, "f", [1])
TEXT = (5, b"x", "", [1])
WORDS = (5, b"x", None)
ITEMS = (5, "text", None, {"a": 1})
NUMBERS = (5, "text", ["1"], [True], [[1], [1, 2]], None)
MAPPING = (5, "text", [1])
CHOICE = ("sideways", 5, None)


def client(kv: Any) -> None:
    kv.incr("n")


def subject(_: object) -> None: ...


RUN = {
    "own_connections": FLAG,
    "setup": FUNCTION,
    "invariant": FUNCTION,
    "clock_jumps": ("soon", b"ab", [NAN], {"a": 1}, True, None),
    "expected": (5, "ValueError", [ValueError], None, (5,)),
    "max_steps": (*COUNT, 0),
    "engine": TEXT,
    "url": TEXT,
    "client_options": MAPPING,
}
CLIENTS = (5, "text", [], [5], {"a": 5}, {5: client}, None)
GATE = {
    "before": TEXT,
    "after": TEXT,
    "nth": (*COUNT, 0),
    "crash": FLAG,
    "hold_at_most": (*NUMBER, 0),
}
RULES = {"limit": (*COUNT, 0), "window": (*NUMBER, 0)}
BURST = ("3", 2.5, True, -1, 0, [1])
FAULTS = ("crashes", "lost_replies", "lost_requests", "expiries", "script_flushes", "failovers")
LONG = dict.fromkeys(FAULTS, FLAG)
FRAME = pd.DataFrame({"x": [1], "y": [1], "by": ["a"]})

# The callable, arguments that are right, and of each argument values that are wrong.
Case = tuple[Callable[..., Any], dict[str, Any], dict[str, tuple[Any, ...]]]
CASES: dict[str, Case] = {
    "explore": (
        instruments.explore,
        {"clients": [client]},
        {
            "clients": CLIENTS,
            "faults": (5, {"crashes": True}, True, None),
            "max_faults": (*COUNT, 0),
            "max_schedules": (*COUNT, 0),
            "max_seconds": (*NUMBER, 0),
            "processes": (*COUNT, 0),
            "reduce": ("5", 1, None),
            "progress": FLAG,
            **RUN,
            **LONG,
        },
    ),
    "replay": (
        instruments.replay,
        {"schedule": "0", "clients": [client]},
        {"schedule": ("", "  ", 5, None, ["0"]), "clients": CLIENTS, **RUN},
    ),
    "step": (instruments.step, {"label": "row"}, {"label": TEXT, "reads": FLAG}),
    "Faults": (instruments.Faults, {}, {**LONG, "clock_jumps": (5, "soon", b"ab", ["1"], None)}),
    "Gate": (lambda **given: instruments.Gate(**given), {}, GATE),
    "gated": (
        instruments.gated,
        {"url": "redis://127.0.0.1:1", "before": "GET"},
        {"url": TEXT, **{name: wrong for name, wrong in GATE.items() if name != "after"}},
    ),
    "paused": (
        lambda pid: instruments.paused(pid).__enter__(),  # type: ignore[attr-defined]
        {},
        {"pid": (*COUNT, 1)},
    ),
    "Failover": (instruments.Failover, {}, {"engine": (*TEXT, "no engine", "fakeredis")}),
    "Proxy": (
        instruments.Proxy,
        {},
        {"target": (5, None, "http://x", ("h",), ("h", "1"), (5, 1), ("h", 0), ["h", 1])},
    ),
    "Origin": (
        instruments.Origin,
        {"customer_count": 1, "order_count": 1},
        {
            "url": (*TEXT, "no url"),
            "customer_count": (*COUNT, 0),
            "order_count": (*COUNT, 0),
            "seed": COUNT,
        },
    ),
    "judge": (
        instruments.judge,
        {"algorithm": "sliding-log", "times": [1.0], "limit": 1, "window": 1.0},
        {"algorithm": CHOICE, "times": (*NUMBERS, [NAN]), **RULES, "burst": BURST},
    ),
    "certain_overlap": (
        instruments.certain_overlap,
        {"spans": [(0.0, 1.0)], "limit": 1, "window": 1.0},
        {"spans": (*NUMBERS, [1.0, 2.0, 3.0]), **RULES},
    ),
    "judge_denials": (
        instruments.judge_denials,
        {
            "algorithm": "sliding-log",
            "admitted": [1.0],
            "denied": [1.1],
            "limit": 1,
            "window": 1.0,
        },
        {
            "algorithm": CHOICE,
            "admitted": NUMBERS,
            "denied": NUMBERS,
            "unknown": NUMBERS,
            "slack": NUMBER,
            **RULES,
            "burst": BURST,
        },
    ),
    "judge_history": (
        instruments.judge_history,
        {"history": [], "model": Register()},
        {"history": (*ITEMS, [5]), "model": (5, None), "max_configurations": (*COUNT, 0)},
    ),
    "judge_scores": (
        instruments.judge_scores,
        {"final": {}, "acknowledged": []},
        {
            "final": MAPPING,
            "acknowledged": (*ITEMS, [5], ["ab"]),
            "unknown": (*ITEMS, [5]),
            "mode": CHOICE,
            "order": CHOICE,
        },
    ),
    "Submissions": (instruments.Submissions, {}, {"mode": CHOICE, "order": CHOICE}),
    "compare": (
        instruments.compare,
        {"a": lambda: 1.0, "b": lambda: 1.0, "turns": 2},
        {
            "a": FUNCTION,
            "b": FUNCTION,
            "turns": (*COUNT, 1),
            "warmup": COUNT,
            "seed": COUNT,
            "confidence": (*NUMBER, 0, 1),
            "measure": FUNCTION,
            "seconds": (*NUMBER, -1),
        },
    ),
    "ratio_over_turns": (
        instruments.ratio_over_turns,
        {"a": [1.0, 1.0], "b": [1.0, 1.0]},
        {
            "a": ITEMS,
            "b": ITEMS,
            "confidence": (*NUMBER, 0, 1),
            "measure": FUNCTION,
        },
    ),
    "experiment": (
        instruments.experiment,
        {"subject": subject, "workload": instruments.Uniform(1), "seed": 1, "count": 1},
        {
            "subject": FUNCTION,
            "workload": (5, "text", None, {"a": 1}),
            "seed": COUNT,
            "arrivals": (5, "closed"),
            "count": ("3", 2.5, True, -1, 0),
            "duration": ("3", True, NAN, 0),
            "warmup": COUNT,
            "warmup_seconds": NUMBER,
            "bucket": (*NUMBER, 0),
            "check": FUNCTION,
            "expected": (ValueError, [ValueError], (5,), (int,), None),
            "kv": (5, "text"),
            "name": WORDS,
            "progress": FLAG,
            "clock": (5, "text"),
        },
    ),
    "environment": (instruments.environment, {}, {"kv": (5, "text")}),
    "in_turns": (
        instruments.in_turns,
        {"variants": {"a": lambda: 1}, "turns": 1},
        {
            "variants": (*MAPPING, {"a": 5}, None),
            "turns": (*COUNT, 0),
            "seed": COUNT,
            "warmup": COUNT,
            "seconds": (*NUMBER, -1),
        },
    ),
    "merged": (instruments.merged, {}, {"runs": (*ITEMS, [], [5])}),
    "Uniform": (instruments.Uniform, {}, {"n": (*COUNT, 0)}),
    "Zipf": (instruments.Zipf, {"n": 1, "s": 1.0}, {"n": (*COUNT, 0), "s": NUMBER}),
    "Hotspot": (
        instruments.Hotspot,
        {"n": 2},
        {
            "n": (*COUNT, 1),
            "hot_fraction": (*NUMBER, 0),
            "hot_weight": (*NUMBER, 2),
            "shift_every": BURST,
        },
    ),
    "Scan": (instruments.Scan, {}, {"n": (*COUNT, 0)}),
    "Latest": (
        instruments.Latest,
        {"n": 2},
        {"n": (*COUNT, 0), "s": (*NUMBER, -1), "inserts": (*NUMBER, 2)},
    ),
    "read_access_log": (
        instruments.read_access_log,
        {"path": "absent.csv"},
        {"path": (5, None, b"x", "absent.csv"), "key": TEXT, "time": TEXT},
    ),
    "ClosedLoop": (instruments.ClosedLoop, {}, {"workers": (*COUNT, 0)}),
    "OpenLoop": (
        instruments.OpenLoop,
        {"rate": 1.0},
        {"rate": (*NUMBER, 0), "poisson": FLAG, "workers": (*COUNT, 0)},
    ),
    "Trace": (
        instruments.Trace,
        {"times": [1.0], "asked": [1]},
        {"times": NUMBERS, "asked": NUMBERS},
    ),
    "ttl_hit_ratio": (
        theory.ttl_hit_ratio,
        {"probabilities": [1.0], "rate": 1.0, "ttl": 1.0},
        {"probabilities": (*NUMBERS, [], [NAN]), "rate": (*NUMBER, 0), "ttl": (*NUMBER, -1)},
    ),
    "che_lru_hit_ratio": (
        theory.che_lru_hit_ratio,
        {"probabilities": [1.0], "capacity": 1},
        {"probabilities": NUMBERS, "capacity": (*COUNT, 0)},
    ),
    "closed_loop_pause": (
        theory.closed_loop_pause,
        {"percent": 99.0, "pause": 1.0, "seconds": 9.0, "users": 1, "rate": 1.0},
        {
            "percent": (*NUMBER, 101),
            "pause": NUMBER,
            "seconds": NUMBER,
            "users": COUNT,
            "rate": NUMBER,
        },
    ),
    "lines": (
        charts.lines,
        {"frame": FRAME, "x": "x", "y": "y", "by": "by", "title": "", "xlabel": "", "ylabel": ""},
        {"frame": (5, {"x": [1]}, None)},
    ),
}
RESULTS = {"Story", "Violated", "World", "ClientCrashed", "GatedRedis", "Comparison", "Result"}
RESULTS |= {"AdmissionVerdict", "DenialVerdict", "HistoryVerdict", "ScoreVerdict", "Operation"}
NO_ARGUMENTS = {"Recorder", "ALL_FAULTS", "charts", "theory"}


EACH = [
    pytest.param(case, name, all_wrong, id=f"{case}({name})")
    for case, (_, _, arguments) in CASES.items()
    for name, all_wrong in arguments.items()
]


def refusal(case: str, name: str, wrong: Any) -> str:
    call, right, _ = CASES[case]
    given = right | ({"before": "GET"} if case == "Gate" and name != "after" else {})
    try:
        call(**given | {name: wrong})
    except InvalidArgument as refused:
        return str(refused)
    return "taken"


@pytest.mark.parametrize(("case", "name", "all_wrong"), EACH)
def test_it_is_refused_by_name(case: str, name: str, all_wrong: tuple[Any, ...]) -> None:
    for wrong in all_wrong:
        if wrong is None and case == "Gate":
            continue  # one of before and after is None
        if wrong is None and case in ("explore", "replay") and name in ("client_options", "url"):
            continue
        said = refusal(case, name, wrong)
        assert re.search(name, said), repr(wrong)
        assert isinstance(wrong, list | dict | tuple | str) or f"{wrong!r:.20}" in said


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("seconds", lambda: instruments.Recorder().record("1")),  # type: ignore[arg-type]
        ("seconds", lambda: instruments.Recorder().record(NAN)),
        ("seconds", lambda: instruments.Recorder().record_all(["1"])),  # type: ignore[list-item]
        ("unknown", lambda: instruments.Submissions().add("ann", 1, unknown="no")),  # type: ignore[arg-type]
        ("seed", lambda: instruments.Uniform(3).keys(2, -1)),
        ("seed", lambda: instruments.OpenLoop(3).times(count=2, seed="1")),  # type: ignore[arg-type]
        ("called", lambda: instruments.judge_history([_called_at("1")], Register())),
    ],
)
def test_methods_refuse_too(name: str, call: Callable[[], Any]) -> None:
    with pytest.raises(InvalidArgument, match=name):
        call()


def _called_at(moment: Any) -> instruments.Operation:
    return instruments.Operation("c", "read", (), None, moment, 2.0)


def test_every_argument_stands_in_the_table() -> None:
    public = set(instruments.__all__) - RESULTS - NO_ARGUMENTS
    assert public <= set(CASES)
    for name in public:
        parameters = inspect.signature(getattr(instruments, name)).parameters.values()
        asked = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
        assert asked - {"touches", "after"} <= set(CASES[name][2]), name
