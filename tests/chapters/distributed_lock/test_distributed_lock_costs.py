"""The costs of a lock are counted on the wire, and late releases are real."""

from __future__ import annotations

from kvlab import Kv, Lock
from kvlab.chapters.distributed_lock import costs
from kvlab.server.running_server import RunningServer


def test_round_trips_are_those_of_a_warm_connection(kv: Kv, server: RunningServer) -> None:
    trips = costs.round_trips(server.url, kv.prefix).set_index(["variant", "op"])["round_trips"]
    assert trips["naive"].to_dict() == {"acquire": 2, "release": 2}
    assert trips["hardened"].to_dict() == {"acquire": 1, "release": 1}


def test_a_late_release_deletes_bs_lock_when_the_lock_is_naive(
    kv: Kv, server: RunningServer
) -> None:
    for _ in range(2):  # the first leaves nothing behind
        assert costs.naive_late_release(server.url, kv.prefix) == "A deleted B's lock"
        assert costs.hardened_late_release(server.url, kv.prefix) is None
    kept = {key.decode() for key in kv.client.scan_iter(f"{kv.prefix}*")}
    assert f"{kv.prefix}lock:late" not in kept
    assert kv.run(Lock("late", 10).try_acquire()) is not None


def test_violations_are_counted_in_the_run_that_is_shown(kv: Kv, server: RunningServer) -> None:
    found = costs.latency(server.url, kv, turns=2, count=3, warmup=1, seed=1)
    counted = [(result.count, result.violations) for result in found.runs.values()]
    assert counted == [(6, 2), (6, 0)]
    assert found.finding.startswith("B's lock deleted: 2 naive and 0 hardened; median time: ")
