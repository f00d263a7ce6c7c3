"""Final scores judged: by arithmetic, by every outcome of the unknown, and on a real board."""

from __future__ import annotations

import itertools
import json
import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np
import pytest
import redis

from kvlab import Kv, Leaderboard, NaiveLeaderboard
from kvlab.errors import InvalidArgument, OutcomeUnknown
from kvlab.instruments import Submissions, judge_scores
from kvlab.instruments.faults.proxy import Proxy
from kvlab.server.running_server import RunningServer

MAX = 2**53 - 1
Pairs = list[tuple[str, float]]


@pytest.mark.parametrize(
    ("final", "acknowledged", "unknown", "mode", "order", "holds"),
    [
        ({}, [], [], "add", "desc", True),
        ({"a": 5}, [("a", 2), ("a", 3)], [], "add", "desc", True),
        ({"a": 6}, [("a", 2), ("a", 3)], [], "add", "desc", False),
        ({"a": 4}, [("a", 2), ("a", 3)], [], "add", "desc", False),
        ({}, [("a", 2)], [], "add", "desc", False),  # acknowledged, and not there
        ({}, [("a", 0)], [], "add", "desc", False),
        ({"a": 1}, [], [], "add", "desc", False),  # there, and nobody submitted it
        ({"a": math.inf}, [("a", 1)], [("a", 1)], "add", "desc", False),
        ({"a": math.nan}, [("a", 1)], [], "add", "desc", False),
        ({}, [], [("a", 2)], "add", "desc", True),  # only unknown: absent
        ({"a": 2}, [], [("a", 2)], "add", "desc", True),  # or there
        ({"a": 3}, [], [("a", 2)], "add", "desc", False),
        *(
            ({"a": total}, [("a", 10)], [("a", 3), ("a", -2)], "add", "desc", 8 <= total <= 13)
            for total in (7, 8, 13, 14)
        ),
        *(
            ({"a": best}, [("a", 5), ("a", 3)], [("a", 4), ("a", 7)], "best", "desc", 5 <= best < 8)
            for best in (4, 5, 7, 8)
        ),
        *(
            ({"a": best}, [("a", 5), ("a", 7)], [("a", 6), ("a", 3)], "best", "asc", 3 <= best < 6)
            for best in (2, 3, 5, 6)
        ),
        ({"a": 9}, [("a", 9)], [("a", 3)], "best", "desc", True),
        ({"a": 8}, [("a", 9)], [("a", 3)], "best", "desc", False),
        ({"a": 4}, [], [("a", 4), ("a", 6)], "best", "desc", True),
        ({"a": 3}, [], [("a", 4), ("a", 6)], "best", "desc", False),
        ({"a": 6}, [], [("a", 4), ("a", 6)], "best", "asc", True),
        ({"a": 7}, [], [("a", 4), ("a", 6)], "best", "asc", False),
        ({}, [], [("a", 4)], "best", "asc", True),
        ({7: 5}, [("7", 5)], [], "add", "desc", True),  # an int stands for its digits
        ({"a": np.float64(5)}, [("a", np.int64(2)), ("a", 3.0)], [], "add", "desc", True),
    ],
)
def test_known_verdicts(
    final: dict[Any, float], acknowledged: Pairs, unknown: Pairs, mode: Any, order: Any, holds: bool
) -> None:
    verdict = judge_scores(final, acknowledged, unknown, mode=mode, order=order)
    assert verdict.holds is holds, str(verdict)
    assert (verdict.acknowledged, verdict.unknown) == (len(acknowledged), len(unknown))
    assert (verdict.wrong, len(verdict.examples)) == (int(not holds), int(not holds))


@pytest.mark.parametrize(("mode", "order"), [("add", "desc"), ("best", "desc"), ("best", "asc")])
def test_the_range_is_that_of_every_outcome(mode: Any, order: Any) -> None:
    lot = random.Random(5)
    for _ in range(100):
        scores = [lot.randrange(-9, 10) for _ in range(lot.randrange(1, 6))]
        cut = lot.randrange(len(scores) + 1)
        known, lost = scores[:cut], scores[cut:]
        come_to = sum if mode == "add" else max if order == "desc" else min
        outcomes = {
            come_to([*known, *some])
            for size in range(len(lost) + 1)
            for some in itertools.combinations(lost, size)
            if known or some
        }
        # A sum without any acknowledged may be that of none, of a member that is absent.
        least, most = min(outcomes), max(outcomes)
        if mode == "add" and not known:
            least, most = min(least, 0), max(most, 0)
        for total in range(-50, 51):
            verdict = judge_scores(
                {"a": total},
                [("a", n) for n in known],
                [("a", n) for n in lost],
                mode=mode,
                order=order,
            )
            assert verdict.holds == (least <= total <= most)


def test_one_point_is_seen_at_two_to_the_53() -> None:
    halves = [("a", MAX // 2 + 1), ("a", MAX // 2)]
    assert judge_scores({"a": MAX}, halves).holds
    assert not judge_scores({"a": MAX - 1}, halves).holds
    assert not judge_scores({"a": float(2**53)}, halves).holds
    assert judge_scores({"a": float(2**53)}, halves, [("a", 1)]).holds


def test_a_rounded_sum_is_wrong_and_an_exact_one_right() -> None:
    assert not judge_scores({"a": 0.1 + 0.2}, [("a", 0.1), ("a", 0.2)]).holds
    assert judge_scores({"a": 0.75}, [("a", 0.5), ("a", 0.25)]).holds
    # Summed as floats, left to right, this would come to 0.
    large = [("a", 2.0**60), ("a", 1), ("a", -(2.0**60))]
    assert judge_scores({"a": 1}, large).holds


def test_the_worst_members_are_shown_in_a_line_each() -> None:
    acknowledged = [(f"m{n}", 100) for n in range(20)] + [("m17", 315)]
    final = {f"m{n}": 100 + n // 10 for n in range(20)} | {"m17": 420, "guest": 5}
    del final["m3"]
    verdict = judge_scores(final, acknowledged, [("m17", 3), ("m17", -1)])
    assert (verdict.members, verdict.wrong) == (21, 12)
    assert verdict.examples[:4] == (
        "member guest: 5 on the board, nothing was submitted",
        "member m3: not on the board, 100 acknowledged (1 submissions), 0 unknown: "
        "100 would be right",
        "member m17: 420 on the board, 415 acknowledged (2 submissions), 2 unknown: "
        "414 to 418 would be right",
        "member m10: 101 on the board, 100 acknowledged (1 submissions), 0 unknown: "
        "100 would be right",
    )
    assert len(verdict.examples) == 5
    assert str(verdict).startswith("12 of 21 members have a wrong score\n    member guest")
    half = judge_scores({"a": 0.5, "b": math.inf}, [], [("a", 0.25), ("b", 1)])
    assert half.examples[0].startswith("member b: inf on the board, nothing acknowledged")
    assert half.examples[1].endswith("0.5 on the board, nothing acknowledged (0 submissions), "
                                     "1 unknown: 0 to 0.25 would be right")  # fmt: skip


@pytest.mark.parametrize(("mode", "order"), [("add", "desc"), ("best", "desc"), ("best", "asc")])
def test_workers_merge_to_what_one_would_have_seen(mode: Any, order: Any) -> None:
    lot = random.Random(9)
    whole, parts = Submissions(mode, order), [Submissions(mode, order) for _ in range(3)]
    for _ in range(600):
        score = lot.choice((lot.randrange(-50, 50), lot.random(), MAX, -MAX))
        given: Any = (f"m{lot.randrange(40)}", score)
        unknown = lot.random() < 0.3
        whole.add(*given, unknown=unknown)
        lot.choice(parts).add(*given, unknown=unknown)
    merged = Submissions(mode, order)
    for part in parts:
        for travelled in (
            json.loads(json.dumps(part.to_dict())),
            msgpack.unpackb(msgpack.packb(part.to_dict())),
        ):
            assert Submissions.from_dict(travelled).to_dict() == part.to_dict()
        before = (merged.to_dict(), part.to_dict())
        merged, first = merged.merge(Submissions.from_dict(travelled)), merged
        assert (first.to_dict(), part.to_dict()) == before
    assert merged.to_dict()["rows"] == whole.to_dict()["rows"]
    assert any(isinstance(value, str) for row in whole.to_dict()["rows"].values() for value in row)
    final = dict.fromkeys(whole.to_dict()["rows"], 1.5)
    assert merged.judge(final) == whole.judge(final)


def test_sums_beyond_64_bits_travel() -> None:
    submissions = Submissions()
    for _ in range(1500):
        submissions.add("a", -MAX, unknown=True)
    data = msgpack.unpackb(msgpack.packb(submissions.to_dict()))
    assert data["rows"]["a"] == [0, 1500, None, str(-1500 * MAX), 0]
    assert Submissions.from_dict(data).to_dict() == data


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, "7", None, True])
def test_a_score_that_is_no_number_is_refused(score: Any) -> None:
    with pytest.raises(InvalidArgument, match="score must be a finite number"):
        Submissions().add("a", score)


def test_misuse_is_named() -> None:
    with pytest.raises(InvalidArgument, match="mode must be add or best, not 'set'"):
        Submissions("set")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="order must be"):
        judge_scores({}, [], order="up")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="best desc does not merge with best asc"):
        Submissions("best").merge(Submissions("best", "asc"))


# --- a real board whose replies are lost --------------------------------------------------------

THREADS, ADDS, LOST = 8, 25, 30


def from_threads(work: Any) -> None:
    barrier = threading.Barrier(THREADS)

    def one(thread: int) -> None:
        barrier.wait(10)
        for i in range(ADDS):
            work(thread, i)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(one, thread) for thread in range(THREADS)]:
            done.result(60)


def test_lost_replies_of_a_real_board_are_within_bounds_and_the_naive_one_is_not(
    kv: Kv, server: RunningServer
) -> None:
    board, naive = Leaderboard("lost", ties="shared"), NaiveLeaderboard(kv.client, kv.prefix)
    kv.run(board.submit("m0", 0))  # the script is there
    mine, theirs, guard = Submissions(), Submissions(), threading.Lock()
    with Proxy(server.url) as proxy:
        plain = redis.Redis("127.0.0.1", proxy.port, max_connections=50)  # retries by itself
        with plain, Kv(plain, prefix=kv.prefix, sleep=lambda _: None) as lossy:
            through = NaiveLeaderboard(plain, kv.prefix)

            def submit(thread: int, i: int) -> None:
                member, unknown = f"m{(thread + i) % 5}", False
                try:
                    lossy.run(board.submit(member, i + 1, "add"))
                except OutcomeUnknown:
                    unknown = True
                with guard:
                    mine.add(member, i + 1, unknown=unknown)

            def increment(thread: int, i: int) -> None:
                member = f"m{(thread + i) % 5}"
                through.increment_score(member, i + 1)
                with guard:
                    theirs.add(member, i + 1)

            lost = proxy.swallow_replies(LOST, only="EVALSHA")
            from_threads(submit)
            assert lost.is_set()
            lost = proxy.swallow_replies(LOST, only="ZINCRBY")
            from_threads(increment)
            assert lost.is_set()

    final = {entry.member: entry.score for entry in kv.run(board.top(9))}
    verdict = mine.judge(final)
    assert verdict.holds, str(verdict)
    assert (verdict.acknowledged, verdict.unknown) == (THREADS * ADDS - LOST, LOST)
    # Swallowed replies are of commands that ran: the same submissions, all known, are exact.
    everything = mine.to_dict()
    totals = {m: row[2] + row[4] for m, row in everything["rows"].items() if row[4] is not None}
    assert {m: final[m] for m in totals} == totals
    # The control: what the naive client counted twice is more than was acknowledged.
    doubled = {m.decode(): s for m, s in naive.get_top_players(9)}
    assert sum(doubled.values()) > sum(row[2] for row in theirs.to_dict()["rows"].values())
    assert not theirs.judge(doubled).holds
