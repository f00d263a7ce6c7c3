"""A watcher that is cut off learns what it missed; a change reaches every watcher."""

from __future__ import annotations

from kvlab import FeatureFlags, Flag, Kv
from kvlab.chapters.feature_flags.outage import WatcherBehindProxy
from kvlab.chapters.feature_flags.reach import delays_of_changes
from kvlab.chapters.feature_flags.round_trips import count_round_trips
from kvlab.server.engines import RunningServer

FLAGS = FeatureFlags("shop", defaults={"new": False})


def test_a_change_that_nobody_was_told_is_read_after_the_reconnect(
    kv: Kv, server: RunningServer
) -> None:
    kv.run(FLAGS.set("new", True))
    with (
        WatcherBehindProxy(server.url, kv.prefix, FLAGS) as outage,
        WatcherBehindProxy(server.url, kv.prefix, FLAGS) as other,
    ):
        first = outage.watcher.snapshot.version
        outage.kill_subscription()
        missed = kv.run(FLAGS.set("new", Flag(20)))
        assert outage.watcher.snapshot.version == first < missed
        assert other.watcher.wait_for(missed)
        assert other.watcher.error is None  # the other notebook's watcher was not killed
        outage.reconnect()
        assert outage.watcher.wait_for(missed)
        outage.lose_server()
        assert outage.watcher.snapshot.version == missed


def test_every_change_has_a_delay_for_each_watcher(kv: Kv, server: RunningServer) -> None:
    delays = delays_of_changes(server.url, kv, FLAGS, "new", watchers=3, changes=2)
    assert [len(of_change) for of_change in delays] == [3, 3]
    assert all(seconds > 0 for of_change in delays for seconds in of_change)


def test_a_check_in_a_snapshot_makes_no_round_trip(kv: Kv, server: RunningServer) -> None:
    trips = count_round_trips(server.url, kv.prefix, FLAGS, "new", checks=(1, 10))
    assert list(trips["naive"]) == [1, 10]
    assert list(trips["hardened"]) == [0, 0]
