"""What outgrows one key: how many decisions one limiter key takes, and what parts of it change.

``python -m benchmarks.studies.hot_keys`` [--save]. A private cluster of three primaries. A node
runs commands one after the other, so a key takes as many decisions a second as fit into one second
of its node's CPU. That is what is measured: the CPU of the node's process, by the operating system,
over hits that are all admitted. Neighbours on the machine hardly change it.

* ``alone``: each hit is a round trip of its own. ``lists``: 500 hits travel together.
* ``parts``: a limit of 12 parts, each with a twelfth of it and a key of its own; each hit draws
  one. The busiest node counts.

Parts never admit more than the limit together. They may deny a hit while another part has room: how
much of a limit is admitted, for as many hits as the limit and for more, is counted too.

``--save`` keeps the run in ``benchmarks/results/hot_keys.json``, and writes the lines of
``benchmarks/README.md`` from it and from ``board_size.txt`` beside it; with ``--kept`` from the
runs that are there.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from kvlab import FixedWindow, Kv, SlidingWindowCounter, SlidingWindowLog, TokenBucket
from kvlab.instruments.measure.machine import environment
from kvlab.server import engines
from kvlab.server.running_cluster import RunningCluster
from kvlab.workshop import readme

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
KINDS = (FixedWindow, SlidingWindowLog, SlidingWindowCounter, TokenBucket)
PARTS = 12
LIST = 500
DAY = 86_400.0
SEED = 16
MOST = 10**6  # of a log
WHOLE = 1_200
DEMANDS = (1.0, 1.25, 1.5)


def part_of(limiter: Any, key: str, draw: random.Random) -> Any:
    """A hit on one of the parts of a key; ``limiter`` has the limit of a part."""
    return limiter.hit(f"{key}:{draw.randrange(PARTS)}")


def cpu_seconds(cluster: RunningCluster) -> list[float]:
    """What each primary has used so far."""
    times = [psutil.Process(node.pid).cpu_times() for node in cluster.primaries]
    return [time.user + time.system for time in times]


def most_a_second(cluster: RunningCluster, count: int, work: Callable[[], None]) -> float:
    """As many of the ``count`` hits of ``work`` fit into a second of the busiest node's CPU."""
    before = cpu_seconds(cluster)
    work()
    used = [after - b for after, b in zip(cpu_seconds(cluster), before, strict=True)]
    return count / max(used)


def measured(kv: Kv, cluster: RunningCluster, hits: int, turns: int) -> list[dict[str, Any]]:
    """A row for each limiter and way: the median over the turns, the least and the most."""
    draw = random.Random(SEED)
    rows = []
    for kind in KINDS:
        limiter = kind("hot", limit=MOST, window=DAY)
        ways: dict[str, Callable[[], Any]] = {
            "alone": lambda: [kv.run(limiter.hit("k")) for _ in range(hits // 3)],  # noqa: B023
            "lists": lambda: in_lists(kv, hits, lambda: limiter.hit("k")),  # noqa: B023
            "parts": lambda: in_lists(kv, hits, lambda: part_of(limiter, "k", draw)),  # noqa: B023
        }
        for way, work in ways.items():
            count = hits // 3 if way == "alone" else hits
            found = [most_a_second(cluster, count, work) for _ in range(turns)]
            low, middle, high = min(found), statistics.median(found), max(found)
            row = {"limiter": kind.__name__, "way": way}
            rows.append(row | {"a second": round(middle), "low": round(low), "high": round(high)})
    return rows


def in_lists(kv: Kv, hits: int, op: Callable[[], Any]) -> None:
    for _ in range(hits // LIST):
        if not all(decision.allowed for decision in kv.run([op() for _ in range(LIST)])):
            raise AssertionError("a hit was denied: nothing was measured")


def admitted(kv: Kv, demand: float, seed: int) -> int:
    """How many of the hits the parts of a limit of ``WHOLE`` admit, of ``demand`` times as many."""
    draw = random.Random(seed)
    part = FixedWindow(f"whole{demand}-{seed}", limit=WHOLE // PARTS, window=DAY)
    hits = [part_of(part, "k", draw) for _ in range(round(WHOLE * demand))]
    return sum(decision.allowed for decision in kv.run(hits))


def run(hits: int = 30_000, turns: int = 5, seeds: int = 5) -> dict[str, Any]:
    """The study, as it is kept."""
    with tempfile.TemporaryDirectory() as home:
        cluster = RunningCluster(engines.find("valkey"), Path(home), node_timeout=15)
        try:
            with cluster.client() as client, Kv(client, prefix="hot", timeout=60) as kv:
                rows = measured(kv, cluster, hits, turns)
                shares = {
                    str(demand): [admitted(kv, demand, seed) / WHOLE for seed in range(seeds)]
                    for demand in DEMANDS
                }
            facts = environment() | {"engine": "Valkey", "engine_version": cluster.version}
            return {"environment": facts, "rows": rows, "admitted": shares}
        finally:
            cluster.kill()


def lines(kept: Mapping[str, Any], boards: str) -> str:
    """The lines of ``benchmarks/README.md``."""
    at = {(row["limiter"], row["way"]): shown(row) for row in kept["rows"]}
    parts_head = f"in {PARTS} parts, on 3 primaries"
    table = [
        f"| a limiter key | one hit a round trip | in lists | {parts_head} |",
        "| --- " * 4 + "|",
    ]
    for kind in KINDS:
        figures = [at[kind.__name__, way] for way in ("alone", "lists", "parts")]
        table.append(f"| {' | '.join([kind.__name__, *figures])} |")
    facts = kept["environment"]
    how = (
        "Decisions a second of the busiest node's CPU; a node runs commands one by one. The median "
        f"of the turns, and their range. {facts['engine']} {facts['engine_version']}, "
        f"{facts['cpus']} CPUs, loopback."
    )
    shares = [(float(d), statistics.mean(found)) for d, found in kept["admitted"].items()]
    each = ", ".join(f"{mean:.0%} at a demand of {demand:.0%}" for demand, mean in shares)
    admitted = f"Of a limit of {WHOLE:,} in {PARTS} parts is admitted, on average: {each}."
    sizes = re.findall(r"^(\w+) memory: 10,000,000 members, (\d+) bytes each$", boards, re.M)
    memory = ", ".join(f"{int(each) / 100:.2f} GB (`{ties}`)" for ties, each in sizes)
    slower = re.findall(r"^(\w+) rank: 10,000,000 members take ([\d.]+) of", boards, re.M)
    rank = ", ".join(f"{ratio} (`{ties}`)" for ties, ratio in slower)
    board = (
        f"A board of 10 million members takes {memory}, and a rank {rank} of the time that a "
        "board of 10 thousand takes."
    )
    return "\n".join([*table, "", how, "", admitted, "", board])


def shown(row: Mapping[str, Any]) -> str:
    """The median of the turns, and their range."""
    middle, low, high = (f"{round(row[name], -3):,}" for name in ("a second", "low", "high"))
    return f"{middle} ({low} to {high})"


def main() -> None:
    """Print the lines; with ``--save`` keep the run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.hot_keys")
    parser.add_argument("--save", action="store_true", help="keep the run; write its lines")
    parser.add_argument("--kept", action="store_true", help="take the kept run, measure nothing")
    asked = parser.parse_args()
    file = RESULTS / "hot_keys.json"
    kept = json.loads(file.read_text()) if asked.kept else run()
    boards = (RESULTS / "board_size.txt").read_text()
    print(lines(kept, boards))
    if asked.save:
        file.write_text(json.dumps(kept, indent=1) + "\n")
        page = ROOT / "benchmarks" / "README.md"
        text = readme.replaced(page.read_text(encoding="utf-8"), "edges", lines(kept, boards))
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
