"""How rank, around and submit grow with a board, and a board's memory.

``python -m benchmarks.studies.board_size`` [--largest 10000000]. A private server for each tie
rule, which holds nothing but its boards; closed loop, one client, seeded; the sizes take turns.

Not one server for all rules: after UNLINK a server frees a board in the background, and a server
that uses libc's malloc (the embedded Valkey does) hardly allocates meanwhile. After a board of 10
million members one ZADD of the next load took 2.1 s, longer than ``timeout``.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tqdm.auto import tqdm

from benchmarks.leaderboard import SEED, TIES, rows
from kvlab import Kv, Leaderboard, Op
from kvlab.instruments import in_turns, ratio_over_turns
from kvlab.instruments.measure.machine import environment
from kvlab.leaderboard.board import Ties
from kvlab.server import engines

BASE = 10_000
TURNS = 9
CALLS = 300  # a turn's, for each size
PATIENCE = 60  # seconds: a load of minutes must survive that a busy machine runs others for two

READS: dict[str, Callable[[Leaderboard, str], Op[Any]]] = {
    "rank": lambda board, member: board.rank(member),
    "around 5": lambda board, member: board.around(member, 5),
    "submit add": lambda board, member: board.submit(member, 1, "add"),
}


def bytes_a_member(kv: Kv, board: Leaderboard) -> float:
    """Bytes by MEMORY USAGE, which samples 2,000 elements of each key."""
    keys = [kv.name(key) for key in board.top(1).keys]
    used = sum(kv.client.memory_usage(key, samples=2_000) or 0 for key in keys)
    return used / kv.run(board.page(1, 1)).total


def of_one_kind(kv: Kv, ties: Ties, sizes: list[int]) -> Iterator[str]:
    """Each call on a board of each size, over the same call on a board of ``BASE``; memory."""
    boards, draw = {size: loaded(kv, size, ties) for size in sizes}, random.Random(SEED)
    times = in_turns(
        {
            (name, size): partial(drawn_median, kv, name, boards[size], size, draw)
            for name in READS
            for size in sizes
        },
        turns=TURNS,
        seconds=math.inf,
    )
    for name, size in [key for key in times if key[1] != BASE]:
        ratio = ratio_over_turns(times[name, size], times[name, BASE])
        yield f"{ties} {name}: {size:,} members take {ratio}, measured by {BASE:,}"
    for size in sizes:
        yield f"{ties} memory: {size:,} members, {bytes_a_member(kv, boards[size]):.0f} bytes each"


def loaded(kv: Kv, size: int, ties: Ties) -> Leaderboard:
    """A board of ``size`` members."""
    board = Leaderboard(f"n{size}", ties=ties)
    with tqdm(total=size, desc=f"load {ties}", unit=" members", leave=False) as bar:
        kv.run(board.load(rows(size), progress=bar.update))
    return board


def drawn_median(kv: Kv, name: str, board: Leaderboard, size: int, draw: random.Random) -> float:
    """Median seconds of the call ``name`` for members drawn at random."""
    taken = []
    for member in [f"p{draw.randrange(size)}" for _ in range(CALLS)]:
        began = time.perf_counter()
        kv.run(READS[name](board, member))
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    """Print a line a call and size, and a line a size for the memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.board_size")
    parser.add_argument("--largest", type=int, default=1_000_000, help="members of the largest")
    given = parser.parse_args()
    sizes = [10**p for p in range(3, 9) if 10**p <= max(given.largest, BASE)]
    print(f"closed loop of one client, seed {SEED}, {TURNS} turns of {CALLS} calls, medians")
    for ties in TIES:
        with (
            engines.start("valkey") as server,
            server.client() as client,
            Kv(client, prefix="bench", timeout=PATIENCE, deadline=PATIENCE) as kv,
        ):
            print(", ".join(f"{k} {v}" for k, v in environment(kv).items()))
            for line in of_one_kind(kv, ties, sizes):
                print(line, flush=True)


if __name__ == "__main__":
    main()
