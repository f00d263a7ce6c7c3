"""A benchmark touches nothing outside the default prefix, and no other benchmark's keys."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks._common import opened
from kvlab import Key, Kv, Op
from kvlab.errors import InvalidArgument
from kvlab.server.running_server import RunningServer
from kvlab.workshop import bench

BENCHMARKS = sorted((Path(__file__).parents[2] / "benchmarks").glob("[a-z]*.py"))


def test_two_benchmarks_on_one_server_do_not_meet(
    server: RunningServer, kv: Kv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVLAB_PREFIX", kv.prefix + "mine")
    write, read = Op("SET", Key("k"), "v", "EX", 60), Op("EXISTS", Key("k"))
    with opened(server.url) as one, opened(server.url) as other:
        assert one.prefix.startswith(kv.prefix + "mine:")
        kv.run(write)
        other.run(write)
        one.run(write)
        assert one.clear() == 1
        assert (kv.run(read), one.run(read), other.run(read)) == (1, 0, 1)


@pytest.mark.parametrize("name", ["rate-limiting", "rate_limiting"])
def test_a_name_is_written_with_hyphens_or_underscores(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[list[str]] = []

    def started(command: list[str], **_: object) -> object:
        ran.append(command)
        return SimpleNamespace(process=SimpleNamespace(wait=lambda: 0), end=lambda: None)

    monkeypatch.setattr(bench, "Guarded", started)
    assert bench.run([name]) == 0
    assert ran == [[sys.executable, "-m", "benchmarks.rate_limiting"]]
    assert "== rate-limiting" in capsys.readouterr().out
    with pytest.raises(InvalidArgument, match=r"no benchmark x; there is: .*rate-limiting"):
        bench.run(["x"])


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_no_benchmark_connects_with_a_prefix_of_its_own(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "connect":
            assert "prefix" not in {keyword.arg for keyword in node.keywords}
