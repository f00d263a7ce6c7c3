"""The exercises of chapter 12: the hits of an exact LRU, and the smallest cache that is enough."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from kvlab.chapters.cache_lab.theory import lru_curve
from kvlab.workshop.exercises.exercise import Exercise, Explore, promise

# --- the short one: hits(asked, items) ---


def _must_hit(hits: Any, asked: str, items: int, wanted: int, why: str) -> None:
    got = hits(list(asked), items)
    assert got == wanted, f"{why}: {asked!r}, {items} items: {wanted} hits, not {got!r:.40}"


@promise("what is held is a hit", "the first request of a key misses, the next one hits")
def held_is_hit(hits: Any, explore: Explore) -> None:
    _must_hit(hits, "", 2, 0, "nobody asked")
    _must_hit(hits, "aaab", 2, 2, "the first request of a key misses")


@promise("no more than that", "the cache never holds more items than it may")
def never_more(hits: Any, explore: Explore) -> None:
    _must_hit(hits, "abcabc", 2, 0, "three keys in turn fit into no cache of two")
    _must_hit(hits, "abab", 1, 0, "one item is not two")
    _must_hit(hits, "abcabc", 3, 3, "three keys fit into three items")


@promise("a hit makes a key recent", "the key that was used least recently is evicted")
def hit_is_a_use(hits: Any, explore: Explore) -> None:
    _must_hit(hits, "abaca", 2, 2, "a was used after b, so c evicts b")
    _must_hit(hits, "aaabcb", 2, 3, "a is popular, and was used least recently: c evicts a")


@promise("by chance", "100 random traces have the hits of the workbook's own LRU")
def hits_by_chance(hits: Any, explore: Explore) -> None:
    chance = random.Random(12)
    for _ in range(100):
        asked = "".join(chance.choices("abcdefg", k=40))
        items = chance.randrange(1, 8)
        _must_hit(hits, asked, items, round(40 * _curve(asked, items)), "a random trace")


def _curve(asked: str, items: int) -> float:
    """The hit ratio of an exact LRU, from stack distances."""
    return lru_curve(np.array([ord(key) for key in asked], dtype=np.int64), [items])[items]


# --- the longer one: items_for(asked, wanted) ---


def _must_need(items_for: Any, asked: str, wanted: float, items: int | None, why: str) -> None:
    got = items_for(list(asked), wanted)
    said = f"{why}: {asked!r}, a hit ratio of {wanted:g}"
    assert got == items, f"{said}: {items}, not {got!r:.40}"


@promise("the smallest", "one item less would not be enough")
def smallest(items_for: Any, explore: Explore) -> None:
    _must_need(items_for, "aaaa", 0.75, 1, "one key needs one item")
    _must_need(items_for, "abab", 0.5, 2, "with one item each request misses")
    _must_need(items_for, "abbcabbc", 0.6, 3, "two items hit two of eight")


@promise("at least", "a hit ratio that is reached exactly is reached")
def reached_exactly(items_for: Any, explore: Explore) -> None:
    _must_need(items_for, "abab", 0.0, 1, "a cache holds one item at least")
    _must_need(items_for, "abcabc", 0.5, 3, "three hits of six are 0.5")


@promise("first requests miss", "they count, in a cache of any size; None when no size is enough")
def first_requests(items_for: Any, explore: Explore) -> None:
    _must_need(items_for, "abc", 0.1, None, "no key is asked for twice")
    _must_need(items_for, "abab", 0.6, None, "the first two requests always miss")


@promise("by chance", "100 random traces need what the workbook's own curve says")
def needs_by_chance(items_for: Any, explore: Explore) -> None:
    chance = random.Random(12)
    for _ in range(100):
        asked, wanted = "".join(chance.choices("abcdefg", k=40)), chance.randrange(1, 40) / 40
        enough = (n for n in range(1, 8) if _curve(asked, n) >= wanted)
        _must_need(items_for, asked, wanted, next(enough, None), "a random trace")


EXERCISES = (
    Exercise(
        number="12-short",
        function="hits",
        title="the hits of an exact LRU",
        minutes=10,
        hints=(
            "Which key is evicted? You need the order in which the keys were used last.",
            "A hit is a use: move its key to the end. A miss puts its key at the end, and evicts "
            "the first key when there are too many.",
            "With a list: a hit is held.remove(key), a miss of a full cache is held.pop(0); both "
            "end with held.append(key).",
        ),
        promises=(held_is_hit, never_more, hit_is_a_use, hits_by_chance),
    ),
    Exercise(
        number="12",
        function="items_for",
        title="the smallest cache that is enough",
        minutes=20,
        hints=(
            "You can play an LRU of each size. Which size is the largest that can matter?",
            "A larger LRU hits whatever a smaller one hits. So the first size that is enough is "
            "the smallest; more items than different keys change nothing.",
            "In one pass: a request hits in an LRU of n items when fewer than n other keys came "
            "since the last request for this key. Collect that number for each request.",
        ),
        promises=(smallest, reached_exactly, first_requests, needs_by_chance),
    ),
)
