"""The costs of a limiter are counted on the wire and on the server."""

from __future__ import annotations

from kvlab import Kv
from kvlab.chapters.rate_limiting import costs
from kvlab.server.engines import RunningServer


def test_round_trips_are_those_of_a_warm_connection(kv: Kv, server: RunningServer) -> None:
    trips = costs.round_trips(server.url, kv.prefix).set_index(["variant", "op"])["round_trips"]
    assert trips["naive"].to_dict() == {"admitted": 4, "denied": 2}
    assert trips["hardened"].to_dict() == {"admitted": 1, "denied": 1}


def test_violations_are_judged_in_the_run_that_is_shown(kv: Kv, server: RunningServer) -> None:
    results = costs.latency_far_away(server.url, kv.prefix, limit=30, window=0.4, delay=0.0, seed=1)
    assert [result.count for result in results.values()] == [600, 600]
    assert results["naive"].violations is not None
    assert results["hardened"].violations == 0


def test_only_the_log_grows_with_its_limit(kv: Kv) -> None:
    memory = costs.memory_of_full_keys(kv, limits=(10, 100))
    grown = memory["bytes at limit 100"] - memory["bytes at limit 10"]
    assert grown["sliding-log"] > 500
    assert grown.drop("sliding-log").abs().max() < 50
    assert memory["worst interval at limit 10"].to_list() == [20, 10, 19, 19]
