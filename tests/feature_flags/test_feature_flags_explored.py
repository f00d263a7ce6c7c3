"""Flags in every order of their clients' commands, each fault at each point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvlab import FeatureFlags, Flag, FlagSnapshot, NaiveFlags
from kvlab.errors import KvlabError
from kvlab.instruments import World, explore, replay
from kvlab.instruments.explorer.connections.redis_clients import KvRedis

FLAGS = FeatureFlags(defaults={"new-checkout": False, "new-receipt": False})
PAIR = ("new-checkout", "new-receipt")  # they belong together
TEXT = {"decode_responses": True}  # without it the naive version answers False always
FAULTS: dict[str, Any] = {
    "crashes": True,
    "lost_replies": True,
    "lost_requests": True,
    "script_flushes": True,
}


# --- the seed's faults ---


def naive_page(kv: KvRedis) -> list[bool]:
    return [NaiveFlags(kv).get_flag(flag) for flag in PAIR]


def naive_release(kv: KvRedis) -> None:
    for flag in PAIR:
        NaiveFlags(kv).set_flag(flag, True)


def a_page_is_not_mixed(world: World) -> bool:
    seen = world.results[0]
    return not isinstance(seen, list) or seen[0] == seen[1]


def what_is_left_is_not_mixed(world: World) -> bool:
    left = NaiveFlags(world.kv).get_all_flags()
    return len(left) in (0, 2)


def test_naive_page_sees_half_a_change() -> None:
    clients = {"page": naive_page, "release": naive_release}
    story = explore(clients, invariant=a_page_is_not_mixed, client_options=TEXT)
    # Both writes between the two reads; both reads between the two writes.
    assert (story.violations, story.schedules) == (2, 6)
    assert not replay("0 1 1 0", clients, invariant=a_page_is_not_mixed, client_options=TEXT).holds


def test_naive_release_that_dies_leaves_half_a_change() -> None:
    clients = {"page": naive_page, "release": naive_release}
    assert explore(clients, invariant=what_is_left_is_not_mixed, client_options=TEXT)
    story = explore(clients, invariant=what_is_left_is_not_mixed, client_options=TEXT, crashes=True)
    assert story.schedule == "0 0 1 x1"


# --- one committed version ---


def page(kv: KvRedis) -> list[FlagSnapshot]:
    return [kv.run(FLAGS.read_all())]


def two_pages(kv: KvRedis) -> list[FlagSnapshot]:
    return page(kv) + page(kv)


def release(*values: bool | Flag | None) -> Callable[[KvRedis], int]:
    return lambda kv: kv.run(FLAGS.set_many(dict(zip(PAIR, values, strict=True))))


def state(snapshot: FlagSnapshot) -> list[bool]:
    return [snapshot.is_enabled(flag) for flag in PAIR]


def whole(snapshot: FlagSnapshot, commits: int) -> None:
    """Version n is n commits, each of both flags; 0 is the declared defaults."""
    on = state(snapshot)
    assert on[0] == on[1], f"version {snapshot.version} is mixed: {on}"
    assert snapshot.version <= commits, f"{snapshot.version} versions of {commits} commits"
    assert (snapshot.version > 0) == on[0], f"version {snapshot.version} is {on}"


def one_version_and_never_back(world: World) -> bool:
    if not isinstance(world.results[0], BaseException):
        for snapshot in world.results[0]:
            whole(snapshot, 1)
        versions = [snapshot.version for snapshot in world.results[0]]
        assert versions == sorted(versions), "an older version after a newer"
    whole(world.kv.run(FLAGS.read_all(strict=True)), 1)
    return True


def test_a_page_sees_one_version_whatever_happens() -> None:
    for reader, faults in ((page, 2), (two_pages, 1)):
        clients = {"page": reader, "release": release(True, True)}
        assert explore(clients, invariant=one_version_and_never_back, max_faults=faults, **FAULTS)


def no_two_share_a_version(world: World) -> bool:
    """Whoever was told a version made it; no commit was made twice; the last one is what counts."""
    told = [result for result in world.results if isinstance(result, int)]
    assert len(told) == len(set(told)), f"two commits are version {told[0]}"
    snapshot = world.kv.run(FLAGS.read_all(strict=True))
    assert len(told) <= snapshot.version <= len(world.results), f"version {snapshot.version}"
    percents = {flag.percent for flag in snapshot.flags.values()}
    assert len(percents) <= 1, f"mixed: {snapshot.flags}"
    if snapshot.version in told:
        (percent,) = percents
        assert percent == world.results.index(snapshot.version) + 1, "the last is not what counts"
    return True


def test_two_releases_are_two_versions() -> None:
    clients = [release(Flag(1), Flag(1)), release(Flag(2), Flag(2))]
    assert explore(clients, invariant=no_two_share_a_version, max_faults=2, **FAULTS)


def test_a_set_whose_reply_was_lost_says_so_and_is_not_sent_again() -> None:
    story = explore(
        [release(True, True)],
        invariant=lambda world: not isinstance(world.results[0], KvlabError),
        lost_replies=True,
    )
    assert story.schedule == "r0"
    assert story.shortest is not None
    assert type(story.shortest.results[0]).__name__ == "OutcomeUnknown"


def removed_whole(world: World) -> bool:
    left = world.kv.run(FLAGS.read_all(strict=True))
    assert set(left.flags) in (set(), set(PAIR)), f"{set(left.flags)} is left"
    return True


def test_a_removal_is_whole_too() -> None:
    clients = {"page": page, "removal": release(None, None)}
    assert explore(
        clients,
        setup=lambda kv: kv.run(FLAGS.set_many(dict.fromkeys(PAIR, True))),
        invariant=removed_whole,
        **FAULTS,
    )


def test_flags_and_their_log_in_one_transaction_survive_forgotten_scripts() -> None:
    """A commit beside another op: ``atomic=True`` sends the script's text, never its hash."""

    def logged(kv: KvRedis) -> Any:
        return kv.run(FLAGS.set("new-checkout", True), FLAGS.set("new-receipt", True), atomic=True)

    def both_versions(world: World) -> bool:
        snapshot = world.kv.run(FLAGS.read_all(strict=True))
        return snapshot.version in (0, 2) and state(snapshot)[0] == state(snapshot)[1]

    assert explore([logged], invariant=both_versions, max_faults=2, **FAULTS)
