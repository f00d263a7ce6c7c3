"""Chapter 2: save a row and drop its cached copy; store a row only if it is newer."""

from __future__ import annotations

import json
from typing import Any

from kvlab.instruments.explorer.clients.client_thread import step
from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story
from kvlab.workshop.exercises.exercise import TEXT, Exercise, Explore, data, each_key_ends, promise

# --- the short one: save(kv, table, key, row) ---


class Table:
    """The database of the trials: ``write`` changes a row, or raises when it ``refuses``."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.rows: dict[str, Any] = {}
        self._refuses = refuses

    def begin(self, kv: Any) -> None:
        """One row in the database, and a copy of it in the cache."""
        self.rows = {"7": "old"}
        kv.set("row:7", json.dumps("old"), ex=60)

    def write(self, key: str, row: Any) -> None:
        step(f"UPDATE {row}{' raises LookupError' * self._refuses}", "the database")
        if self._refuses:
            raise LookupError("the database refused the row")
        self.rows[key] = row


@promise("database and cache agree", "after a save no reader finds the old row in the cache")
def agree(save: Any, explore: Explore) -> Story:
    table = Table()

    def nothing_old(world: World) -> bool:
        assert table.rows["7"] == "new", f"the database has {table.rows['7']!r}, not the new row"
        cached = data(world).get("row:7")
        assert cached in (None, json.dumps("new")), f"the cache still has {cached}"
        return True

    return explore(
        {"writer": lambda kv: save(kv, table, "7", "new")},
        setup=table.begin,
        invariant=nothing_old,
        client_options=TEXT,
    )


@promise(
    "a refused write",
    "the error reaches the caller, and the cache has no row that is not in the database",
)
def refused(save: Any, explore: Explore) -> Story:
    table = Table(refuses=True)

    def saves(kv: Any) -> str:
        try:
            save(kv, table, "7", "new")
        except LookupError:
            return "LookupError"
        return "nothing"

    def nothing_new(world: World) -> bool:
        assert data(world).get("row:7") != json.dumps("new"), (
            "the database refused it, it is cached"
        )
        said = world.results[0]
        assert said == "LookupError", f"the database refused the row, and the caller got {said}"
        return True

    return explore({"writer": saves}, setup=table.begin, invariant=nothing_new, client_options=TEXT)


@promise("two writers", "in every order the cache ends without the row that lost")
def two_writers(save: Any, explore: Explore) -> Story:
    table = Table()

    def same(world: World) -> bool:
        row, cached = table.rows["7"], data(world).get("row:7")
        assert cached in (None, json.dumps(row)), f"the database has {row!r}, the cache {cached}"
        return True

    return explore(
        {
            "Ann": lambda kv: save(kv, table, "7", "Ann's"),
            "Bob": lambda kv: save(kv, table, "7", "Bob's"),
        },
        setup=table.begin,
        invariant=same,
        client_options=TEXT,
    )


@promise(
    "a reader during the write",
    "the old row that a reader caches before the write is gone after it",
)
def reader_between(save: Any, explore: Explore) -> Story:
    table = Table()

    def caches_old(kv: Any) -> None:
        kv.set("row:7", json.dumps("old"), ex=60)

    def nothing_old(world: World) -> bool:
        labels = [event.label or event.client for event in world.trace]
        came_before = labels.index(1) < labels.index("UPDATE new")
        if came_before:
            cached = data(world).get("row:7")
            assert cached in (None, json.dumps("new")), (
                "a reader cached the old row before the write, and the old row is still there"
            )
        return True

    return explore(
        {"writer": lambda kv: save(kv, table, "7", "new"), "reader": caches_old},
        setup=table.begin,
        invariant=nothing_old,
        client_options=TEXT,
    )


# --- the long one: store(kv, key, version, row) ---


def row_of(kv: Any, key: str) -> Any:
    return json.loads(kv.hget(key, "row") or "null")


@promise("two writers", "in every order the newest version stays")
def newest_stays(store: Any, explore: Explore) -> Story:
    def newest(world: World) -> bool:
        row = row_of(world.kv, "k")
        assert row == "row 7", f"versions 6 and 7 were stored, and the cache has {row!r}"
        return True

    return explore(
        {
            "six": lambda kv: store(kv, "k", 6, "row 6"),
            "seven": lambda kv: store(kv, "k", 7, "row 7"),
        },
        setup=lambda kv: store(kv, "k", 5, "row 5"),
        invariant=newest,
        client_options=TEXT,
    )


@promise("versions are numbers", "10 is newer than 9; the answer is 1 when stored, 0 when not")
def numbers(store: Any, explore: Explore) -> Story:
    def stores(kv: Any) -> str:
        for old, new in ((9, 10), (99, 100), (2**53 - 2, 2**53 - 1)):
            key = f"digits {new}"
            first, second = store(kv, key, new, "new"), store(kv, key, old, "old")
            if row_of(kv, key) != "new":
                return f"{old} replaced {new}: are versions numbers?"
            if not first:
                return f"{new} was stored, and store answered {first!r}"
            if second:
                return f"{old} was refused after {new}, and store answered {second!r}"
        return ""

    def no_complaint(world: World) -> bool:
        complaint = world.results[0]
        assert not complaint, complaint
        return True

    return explore({"writer": stores}, invariant=no_complaint, client_options=TEXT)


@promise("a deleted row", "a late writer cannot bring it back")
def stays_deleted(store: Any, explore: Explore) -> Story:
    def deletes(kv: Any) -> None:
        store(kv, "gone", 3, None)

    def no_row(world: World) -> bool:
        row = row_of(world.kv, "gone")
        assert row is None, f"version 3 deleted the row, and the cache has {row!r}"
        return True

    return explore(
        {"deletes": deletes, "late": lambda kv: store(kv, "gone", 2, "Ada, late")},
        setup=lambda kv: store(kv, "gone", 1, "Ada"),
        invariant=no_row,
        client_options=TEXT,
    )


@promise("every key ends", "the key has a TTL after each store, after a crash too")
def every_key_ends(store: Any, explore: Explore) -> Story:
    def has_ttl(world: World) -> bool:
        each_key_ends(world, "what is in the cache would stay for ever")
        return True

    def stores(kv: Any) -> None:
        store(kv, "k", 1, "row")
        store(kv, "k", 2, None)

    return explore({"writer": stores}, invariant=has_ttl, crashes=True, client_options=TEXT)


EXERCISES = (
    Exercise(
        number="02-short",
        function="save",
        title="save a row, delete its copy",
        minutes=10,
        hints=(
            "Database or cache first? What does a reader see if the second step never comes?",
            "Two writers that both SET the cache can arrive there in the other order than at the "
            "database. What could they do to the cache so that no order matters?",
            "table.write(key, row) first; then kv.delete(f'row:{key}'). The next reader loads.",
        ),
        promises=(agree, refused, two_writers, reader_between),
    ),
    Exercise(
        number="02",
        function="store",
        title="store if newer",
        minutes=20,
        hints=(
            "Between HGET and HSET in Python another writer can come. Where must the comparison "
            "be?",
            "In a script: tonumber(redis.call('HGET', KEYS[1], 'version') or '-1'). A deletion is "
            "a version too.",
            "if known >= tonumber(ARGV[1]) then return 0 end; HSET of row and version, PEXPIRE, "
            "return 1. In Python: kv.eval(LUA, 1, key, version, json.dumps(row), 60_000).",
        ),
        promises=(newest_stays, numbers, stays_deleted, every_key_ends),
    ),
)
