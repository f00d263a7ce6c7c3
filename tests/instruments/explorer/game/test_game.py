"""Play the scheduler: what can be clicked in a game is what the exploration found."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from support import browser
from support.player import _Frames, agrees, games, played

from kvlab import Lock
from kvlab.errors import InvalidArgument
from kvlab.instruments import Faults, Story, explore, replay
from kvlab.instruments.explorer.findings import cost
from kvlab.instruments.explorer.game.page import Game, page_of
from kvlab.instruments.explorer.invariants import judged
from kvlab.instruments.explorer.run.exploration import prepared
from kvlab.instruments.explorer.run.run import Run
from kvlab.instruments.explorer.search import Nondeterministic, Search
from kvlab.workshop.notebooks import NOTEBOOKS

TITLE = "<img src=x onerror=alert(1)></script>'\""
HOSTILE = "<img src=x onerror=alert(1)>\u202e</script>'\""


def buys(kv: redis.Redis) -> None:
    if int(kv.get("stock") or 0) > 0:  # type: ignore[arg-type]
        kv.decr("stock")


def never_below_zero(world: Any) -> bool:
    """the stock is never below zero"""
    return int(world.kv.get("stock") or 0) >= 0


def shop(*clients: Any, **options: Any) -> Story:
    return explore(
        clients or (buys, buys),
        setup=lambda kv: kv.set("stock", 1, ex=60),
        invariant=never_below_zero,
        **options,
    )


def content(game: Game) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="content">(.*)</script>', game.html)
    assert found is not None
    said: dict[str, Any] = json.loads(found[1])
    return said


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    if browser.program() is None:
        pytest.skip("no Chromium: on Debian, apt-get install chromium")
    with browser.browsing(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


def test_every_end_is_reached_by_clicks_and_no_other(page: browser.Page, tmp_path: Path) -> None:
    """The control is a search of its own, which notes nothing."""
    story = shop(faults=Faults(crashes=True, lost_replies=True))
    game = story.save_game(tmp_path / "shop.html")
    page.open((tmp_path / "shop.html").as_uri())
    ends = played(page)
    assert story.settings is not None
    with prepared(story.settings) as exploration:
        runs = Search(lambda: Run(exploration, repeats=True), cost=cost)
        wanted = {" ".join(map(str, path)): judged(run).problem is None for path, run in runs}
    assert {one.path: one.verdict == "holds" for one in ends} == wanted
    broken = [one for one in ends if one.verdict == "broken"]
    assert (len(ends), len(broken)) == (game.ends, game.broken)
    assert (game.ends, game.broken) == (story.schedules, story.violations)
    par = min(one.moves for one in broken)
    assert par == game.par == page.value("root.least") == len(story.shortest.trace)  # type: ignore[union-attr]
    assert f"Broken in 4 moves; fewest moves: {par}" in broken[0].words
    assert page.value("at('score').textContent").startswith("0 moves · 0 faults · ")
    assert f"seen {len(ends)} of {len(ends)} ends" in page.value("at('score').textContent")


@pytest.mark.parametrize("chapter", [*(f"{number:02}" for number in range(1, 9)), "14"])
def test_a_chapter_has_a_game_that_breaks_and_one_that_cannot_be_won(
    chapter: str, page: browser.Page, tmp_path: Path
) -> None:
    (notebook,) = NOTEBOOKS.glob(f"{chapter}_*.ipynb")
    breaks = []
    for title, game in games(notebook):
        (tmp_path / "game.html").write_text(game, encoding="utf-8")
        page.open((tmp_path / "game.html").as_uri())
        ends = played(page)
        assert agrees(page, ends), title
        assert not agrees(page, ends[1:])  # the control
        breaks.append("broken" in {one.verdict for one in ends})
    assert breaks == [True, False]


def test_the_browser_has_nothing_to_complain_about(page: browser.Page, tmp_path: Path) -> None:
    shop().save_game(tmp_path / "shop.html")
    text = (tmp_path / "shop.html").read_text(encoding="utf-8")
    strict = text.replace("img-src data:; ", "")  # the control: its own icon is against its policy
    (tmp_path / "strict.html").write_text(strict, encoding="utf-8")
    page.call("Log.enable")
    for name, complaints in (("shop", 0), ("strict", 1)):
        page.open((tmp_path / f"{name}.html").as_uri())
        page.value("new Promise((done) => requestIdleCallback(done))")
        assert len(page.told("Log.entryAdded")) == complaints


def test_the_keys_play_undo_and_start_again(page: browser.Page, tmp_path: Path) -> None:
    shop().save_game(tmp_path / "shop.html")
    page.open((tmp_path / "shop.html").as_uri())

    def press(keys: str) -> list[str]:
        for key in keys:
            page.value(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}}}))")
        page.value("document.activeElement.blur()")
        lines: list[str] = page.value(
            "Array.from(document.querySelectorAll('#timeline li'), (one) => one.innerText)"
        )
        return [" ".join(line.split()) for line in lines]

    looks = ["1 client 0 GET stock → 1", "2 client 1 GET stock → 1"]
    assert press("12") == looks
    assert (
        press("1")[2] == "3 client 0 DECRBY stock 1 → 0 stock = 0 TTL 60 s client 0 returned None"
    )
    assert page.value("at('score').textContent").endswith("ahead: 1 end, all broken")
    assert len(press("e")) == 4
    assert page.value("document.body.dataset.end") == "broken"
    assert "stock\t-1\t60 s" in page.value("at('keys').innerText")
    assert press("uu") == looks
    assert press("r") == ["Nothing yet: choose."]
    assert page.value("at('keys').innerText").split() == [
        "key",
        "value",
        "TTL",
        "stock",
        "1",
        "60",
        "s",
    ]


def test_what_users_wrote_is_text_and_the_page_asks_nobody(
    page: browser.Page, tmp_path: Path
) -> None:
    def writes(kv: redis.Redis) -> str:
        kv.hset(HOSTILE, HOSTILE, b"\x00\xff")
        return HOSTILE

    def says_no(_: Any) -> None:
        raise AssertionError(HOSTILE)

    game = explore({HOSTILE: writes}, invariant=says_no).play(title=TITLE)
    frames = _Frames()
    frames.feed(game._repr_html_())
    assert frames.found == [(TITLE, game.html)]
    (tmp_path / "frame.html").write_text(game._repr_html_(), encoding="utf-8")
    (tmp_path / "game.html").write_text(game.html, encoding="utf-8")
    page.open((tmp_path / "frame.html").as_uri())
    page.open((tmp_path / "game.html").as_uri())
    page.value("at('on').click()")
    assert page.value("document.querySelectorAll('img, body script').length") == 2  # its own
    shown = page.value("document.body.innerText")
    assert shown.count("<img src=x onerror=alert(1)>\\u202e</script>") >= 5
    assert "\\x00\\xff" in shown
    assert page.value("performance.getEntriesByType('resource').length") == 0


def test_a_bounded_game_has_the_shortest_run_and_says_that_there_is_more() -> None:
    story = shop(lambda kv: kv.get("stock"), buys, buys)
    game = story.play(ends=3)
    assert story.shortest is not None
    assert (game.ends, game.complete, game.par) == (3, False, len(story.shortest.trace))
    assert game.summary.endswith("; there are more ends than these 3")
    assert content(game)["more"] > 0


def polls(kv: redis.Redis) -> None:
    while not kv.get("never"):
        pass


@pytest.mark.parametrize(
    ("clients", "options", "ends", "words"),
    [
        ((buys,), {}, 9, "1 of 1 end holds: you cannot win"),
        (
            (buys, buys),
            {"invariant": None},
            3,
            "all ends hold, and 3 of them are here: you cannot win",
        ),
        (
            (buys, buys),
            {"invariant": None, "max_schedules": 4},
            3,
            "3 ends of many: none is broken, and nobody knows about the others",
        ),
        ((polls,), {"max_steps": 5}, 9, "1 of 1 end undecided"),
    ],
)
def test_a_game_says_what_is_known(
    clients: Any, options: dict[str, Any], ends: int, words: str
) -> None:
    story = explore(clients, setup=lambda kv: kv.set("stock", 1), **options)
    assert story.play(ends=ends).summary == words


def test_a_hardened_game_cannot_be_won() -> None:
    """Its scripts write the server's time, which differs from run to run and has a name here."""

    def takes(kv: Any) -> bool:
        lock = Lock("job", 10)
        held = kv.run(lock.try_acquire())
        return held is not None and (held.fence, kv.run(lock.release(held)))

    story = explore([takes, takes], expiries=True)
    game = story.play()
    assert game.summary == f"{game.ends} of {game.ends} ends hold: you cannot win"
    assert (game.ends, game.par) == (story.schedules, None)
    assert "time-1" in content(game)["texts"]
    assert not [one for one in content(game)["texts"] if re.search(r"…\d{6}", one)]


def test_a_client_that_reads_its_clock_sleeps_and_waits() -> None:
    import time

    def looks(kv: redis.Redis) -> None:
        kv.set("at", int(time.time() > 2e9))
        kv.blpop("never", timeout=1)
        time.sleep(5)

    game = explore([looks], clock_jumps=1e9, invariant=lambda w: w.kv.get("at") == b"0").play()
    assert (game.ends, game.broken, game.par) == (2, 1, 5)  # BLPOP and its end are two
    assert {"reads its clock, which is right", "clock jumps +1e+09 s", "sleeps 5 s"} < set(
        content(game)["texts"]
    )


def test_all_orders_are_in_the_game_of_a_reduced_exploration() -> None:
    clients = [lambda kv: kv.set("a", 1), lambda kv: kv.set("b", 1)]
    story = explore(clients, reduce=True)
    assert (story.schedules, story.play().ends) == (1, 2)


def test_functions_that_do_something_else_now_are_noticed() -> None:
    calm = [True]
    client = lambda kv: kv.set("n", int(calm[0]))  # noqa: E731
    story = explore([client], invariant=lambda w: w.kv.get("n") == b"1")
    calm[0] = False
    with pytest.raises(Nondeterministic, match=r"0 of 1 .* and 1 of 1 are now"):
        story.play()


def test_what_cannot_be_played() -> None:
    with pytest.raises(InvalidArgument, match="a replay is one run"):
        replay("0", [buys]).play()
    with pytest.raises(InvalidArgument, match="ends"):
        shop().play(ends=0)


def test_a_page_has_each_part_of_a_game_once() -> None:
    """Of two clients with four commands each, 70 orders have 25 different points."""
    client = lambda kv: [kv.get("n") for _ in range(4)] and None  # noqa: E731
    game = explore([client, client]).play()
    assert (game.ends, len(content(game)["nodes"])) == (70, 25)
    assert len(page_of(content(game))) == len(game.html) < 20_000
