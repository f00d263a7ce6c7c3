"""The picture of a run: it fits a notebook's cell, no text meets another, and all is readable.

The stories are the widest of the chapters: many clients, long tokens and times, scripts of many
keys, values that grow. Their texts are measured by the renderer that draws them.
"""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from kvlab import CacheAside, FeatureFlags, Leaderboard, Lock, SessionStore, WriteThrough
from kvlab.distributed_lock import NaiveLock
from kvlab.instruments import Story, explore, replay, step
from kvlab.instruments.explorer.run.steps import Step
from kvlab.instruments.explorer.timeline.columns import MARGIN, NUMBERS, Columns
from kvlab.instruments.explorer.timeline.drawing import spell
from kvlab.instruments.explorer.timeline.shapes import Text, widest
from kvlab.instruments.explorer.timeline.timeline import Timeline
from kvlab.rate_limiting import NaiveFixedWindow, NaiveSlidingWindow
from kvlab.sessions import NaiveSessions

LONG = "a customer with a name that fills more than its place and goes on"


def naive_slide(kv: Any) -> bool:
    return NaiveSlidingWindow(kv, limit=1).check("ann")


def three_in_a_window() -> Story:
    """Chapter 3, three at once: ids of a time and a random number."""
    return replay("0 1 2 0 1 2 0 1 2 0 1 2", [naive_slide] * 3)


def thirteen_clients() -> Story:
    return replay("0 x0", [lambda kv: NaiveFixedWindow(kv, limit=10).check("ann")] * 13)


def stale_fill() -> Story:
    cache = CacheAside("profiles", ttl=300)

    def reads(kv: Any) -> Any:
        return kv.run(cache.fetch("7", lambda: "a row of the database" * 5))

    def invalidates(kv: Any) -> None:
        kv.run(cache.invalidate("7"))

    return replay("0 1 0", {"reader": reads, "writer": invalidates})


def session_with_long_ids() -> Story:
    store = SessionStore(idle=1800, absolute=86400)

    def lives(kv: Any) -> Any:
        session = kv.run(store.create("ann", {"cart": ["tea", "milk"] * 9}))
        kv.run(store.update(session.id, {"cart": []}))
        kv.run(store.rotate(session.id))
        return session

    return replay("0", {"ann's phone and laptop": lives, "log_out_everywhere": lives})


def naive_session() -> Story:
    def lives(kv: Any) -> Any:
        sessions = NaiveSessions(kv)
        found = sessions.create(user=7)
        sessions.update(found, a=1)
        return sessions.read(found)

    return replay("q0 r0", [lives])


def stolen_lock() -> Story:
    def uses(kv: Any) -> None:
        lock = NaiveLock(kv)
        if token := lock.acquire("orders"):
            lock.release("orders", token)

    return explore({"A": uses, "B": uses}, expiries=True, invariant=lambda world: world.kv.keys())


def hardened_lock() -> Story:
    lock = Lock("orders", ttl=10)

    def waits(kv: Any) -> Any:
        held = kv.run(lock.acquire(wait=30))
        kv.run(lock.release(held))
        return held

    return explore([waits] * 2, invariant=lambda world: world.results[0].fence is None)


def blocked_and_timed_out() -> Story:
    def client(kv: Any) -> None:
        time.time()
        step("UPDATE, COMMIT of a row with a long description, then a mail to the customer")
        time.sleep(2)
        kv.blpop([f"queue:{LONG}", "queue:b"], 7)

    return replay("j0 0 0 0 t0", [client, lambda kv: kv.rpush("queue:b", LONG)], clock_jumps=[-60])


def leaderboard() -> Story:
    board = Leaderboard("global")
    names = [f"player number {number} of the first division" for number in range(9)]

    def plays(kv: Any) -> Any:
        kv.run(*(board.submit(name, 2**52, op_id=LONG.replace(" ", "")) for name in names))
        return kv.run(board.around(names[3], 2), board.top(5))

    return replay("r0", {"Ann": plays, "Ben": plays})


def flags_in_one_commit() -> Story:
    flags = FeatureFlags("shop", defaults={f"new-checkout-{i}": False for i in range(9)})

    def releases(kv: Any) -> Any:
        kv.run(flags.set_many({f"new-checkout-{i}": True for i in range(9)}))
        return kv.run(flags.read_all())

    return replay("0 1", {"release": releases, "page": lambda kv: kv.run(flags.read_all())})


def write_through() -> Story:
    cache = WriteThrough(CacheAside("customers", ttl=300))
    rows = itertools.count(1)

    def saves(kv: Any) -> Any:
        return kv.run(cache.save("7", lambda: ("v" * 90, next(rows))))

    return replay(
        "0 e:kv:cache:customers:{7}:version", [saves] * 2, setup=lambda kv: kv.set(LONG, LONG)
    )


def transaction() -> Story:
    def client(kv: Any) -> None:
        pipe = kv.pipeline()
        for number in range(9):
            pipe.set(f"{LONG}:{number}", "value" * 30)
        pipe.execute()

    return replay("r0 q1", {LONG: client, LONG.replace(" ", ""): client, "x": client})


def crash_with_the_widest_text() -> Story:
    """Chapter 9: one client, and no text is wider than that of its crash."""

    def works(kv: Any) -> None:
        kv.get("a")
        kv.lrem("working:w1", 1, "a")

    return replay("0 x0", {"worker": works})


def eighty_keys() -> Story:
    def fills(kv: Any) -> None:
        for number in range(80):
            kv.set(f"key:{number}", number)

    return replay("0", [lambda kv: kv.get("key:1")], setup=fills)


def a_long_run() -> Story:
    def counts(kv: Any) -> None:
        for _ in range(100):
            kv.incr("n")

    return replay("0", [counts])


def characters_of_all_kinds() -> Story:
    """Wide ones, combining ones, and some that no font here has."""

    def buys(kv: Any) -> None:
        kv.set("库存:苹果", "三十个苹果 🍎 " * 9)
        kv.get("emoji:😀:👩‍👩‍👧 cafe\u0301 ☃")

    return replay("0 1", {"顾客一号的手机": buys, "😀": buys, "x": lambda kv: kv.get("한국어")})


STORIES: list[Callable[[], Story]] = [
    three_in_a_window, thirteen_clients, stale_fill, session_with_long_ids, naive_session,
    stolen_lock, hardened_lock, blocked_and_timed_out, leaderboard, flags_in_one_commit,
    write_through, transaction, crash_with_the_widest_text, eighty_keys, a_long_run,
    characters_of_all_kinds,
]  # fmt: skip


@pytest.fixture(scope="module", params=STORIES, ids=lambda make: make.__name__)
def story(request: pytest.FixtureRequest) -> Story:
    made: Story = request.param()
    assert made.shortest is not None
    assert "raised" not in str(made)
    return made


def timeline_of(story: Story) -> Timeline:
    assert story.shortest is not None
    return story.shortest


@pytest.fixture(scope="module")
def figure(story: Story) -> Figure:
    return timeline_of(story).figure(story.summary)


@pytest.fixture(scope="module")
def extents(figure: Figure) -> list[tuple[str, Any]]:
    """Each text with the box that it takes on the page."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    return [(text.get_text(), text.get_window_extent(renderer)) for text in figure.axes[0].texts]


def test_it_fits_a_cell(figure: Figure) -> None:
    assert figure.get_size_inches()[0] * figure.dpi <= 960


@pytest.mark.parametrize("make", [crash_with_the_widest_text, thirteen_clients])
def test_the_png_has_twice_the_pixels(make: Callable[[], Story]) -> None:
    story = make()
    png, shown = story._repr_png_()  # type: ignore[misc]
    figure = timeline_of(story).figure(story.summary)
    wide, high = figure.get_size_inches() * figure.dpi
    assert (shown["width"], shown["height"]) == (round(wide), round(high))
    high, wide, _ = imread(io.BytesIO(png)).shape
    assert (wide, high) == pytest.approx((2 * shown["width"], 2 * shown["height"]), abs=2)


def test_a_character_without_a_glyph_is_an_escape() -> None:
    assert spell("plain é ☃") == "plain é ☃"
    assert spell("\U000e0123 \u0378") == r"\u{E0123} \u{378}"


def test_no_text_leaves_it_or_meets_another(figure: Figure, extents: list[tuple[str, Any]]) -> None:
    wide, high = figure.get_size_inches() * figure.dpi
    assert len(extents) > 5
    for words, box in extents:
        assert box.x0 >= 0, words
        assert box.x1 <= wide, words
        assert box.y0 >= 0, words
        assert box.y1 <= high, words
    for (one, box), (other, its_box) in itertools.combinations(extents, 2):
        apart = box.x1 <= its_box.x0 or its_box.x1 <= box.x0
        assert apart or box.y1 <= its_box.y0 + 1 or its_box.y1 <= box.y0 + 1, (one, other)


def test_a_text_is_as_wide_as_it_was_taken_for(
    story: Story, extents: list[tuple[str, Any]]
) -> None:
    shapes = timeline_of(story).diagram(story.summary, spell).shapes
    taken = [s for s in shapes if isinstance(s, Text) and s.words.strip()]
    drawn = [(words, box) for words, box in extents if words.strip()]
    for text, (words, box) in zip(taken, drawn, strict=True):
        assert text.words == words
        assert box.width <= text.width + 2


@pytest.mark.parametrize("names", [("one",), ("one", "two")])
def test_a_text_of_the_server_begins_right_of_the_numbers(names: tuple[str, ...]) -> None:
    label = "is replaced by a replica without the last 12 writes"
    columns = Columns(names, [Step("fail over", None, label=label)], str)
    assert columns.server - 24 - widest([label]) >= MARGIN + NUMBERS
