"""The page of benchmarks has the edges of the kept run; parts of a limit keep the README's word."""

import heapq
import itertools
import json
import random
from collections.abc import Iterator

import pytest

from benchmarks.studies.hot_keys import KINDS, PARTS, RESULTS, ROOT, lines, part_of
from kvlab import Kv, Leaderboard
from kvlab.server.running_cluster import RunningCluster


@pytest.fixture
def kv(cluster: RunningCluster) -> Iterator[Kv]:
    with cluster.client() as client, Kv(client, prefix="hot") as made:
        yield made
        made.clear()


def test_the_page_has_the_lines_of_the_kept_run() -> None:
    kept = json.loads((RESULTS / "hot_keys.json").read_text())
    said = lines(kept, (RESULTS / "board_size.txt").read_text())
    assert said in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    assert "10 million members takes 1" in said


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_parts_admit_together_at_most_the_limit(kind: type, kv: Kv) -> None:
    draw = random.Random(1)
    part = kind("parts", limit=10, window=86_400)
    early = kv.run([part_of(part, "k", draw) for _ in range(10 * PARTS)])
    assert not all(decision.allowed for decision in early)  # though another part has room
    late = kv.run([part_of(part, "k", draw) for _ in range(40 * PARTS)])
    assert sum(decision.allowed for decision in early + late) == 10 * PARTS


def test_merged_tops_have_the_best_of_all_boards(kv: Kv) -> None:
    draw = random.Random(2)
    scores = {f"m{i}": draw.randrange(10**9) for i in range(300)}
    boards = [Leaderboard(f"game:{region}") for region in range(6)]
    for i, (member, score) in enumerate(scores.items()):
        kv.run(boards[i % 6].submit(member, score))
    tops = kv.run([board.top(10) for board in boards])
    best = heapq.nlargest(10, itertools.chain(*tops), key=lambda entry: entry.score)
    assert [entry.member for entry in best] == heapq.nlargest(10, scores, key=scores.__getitem__)
