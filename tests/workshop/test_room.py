"""A room for thirty: results count once, nobody changes another's row, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from support import browser

import kvlab
from kvlab import Kv
from kvlab.errors import KvlabError
from kvlab.server import engines
from kvlab.server.running_server import RunningServer
from kvlab.workshop import hint
from kvlab.workshop.learner.membership import (
    Line,
    Membership,
    RoomRefused,
    follow,
    leave,
    membership,
    membership_of,
)
from kvlab.workshop.learner.progress import log_of
from kvlab.workshop.room import app, events
from kvlab.workshop.room.one_server import OneServer
from kvlab.workshop.room.room import Room
from kvlab.workshop.workbook import WorkingCopy

CODE, KEY = "ABC234", "the trainer's key"
NOW = 1_800_000_000.0


def event(exercise: str, passed: bool, at: float = NOW - 60) -> dict[str, Any]:
    failed = [] if passed else ["a late write"]
    return {"kind": "check", "exercise": exercise, "passed": passed, "failed": failed, "at": at}


class Browser:
    """Talks to the app of a room as its participants and its trainer do."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(self, path: str, body: Any, token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
        return await self.http.post(path, json=body, headers=headers)

    async def join(self, name: str, secret: str = "", code: str = CODE) -> httpx.Response:
        facts = {"code": code, "name": name, "secret": secret or f"the secret of {name}"}
        return await self.post("/join", facts)

    async def token(self, name: str) -> str:
        return str((await self.join(name)).json()["token"])

    async def report(self, token: str, first: int, sent: list[Any]) -> httpx.Response:
        return await self.post("/events", {"first": first, "events": sent}, token)

    async def state(self) -> dict[str, Any]:
        said = await self.http.get("/state", headers={"Authorization": f"Bearer {KEY}"})
        return dict(said.json())

    async def row(self, name: str) -> dict[str, Any]:
        return next(one for one in (await self.state())["people"] if one["name"] == name)


@asynccontextmanager
async def opened(server: RunningServer, prefix: str) -> AsyncIterator[Browser]:
    async with await kvlab.aconnect(server.url, prefix=prefix) as akv:
        made = app.app_of(Room(akv, CODE, KEY, clock=lambda: NOW))
        transport = httpx.ASGITransport(made, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            yield Browser(http)


@pytest.fixture
def in_room(
    server: RunningServer, kv: Kv
) -> Callable[[Callable[[Browser], Awaitable[None]]], None]:
    """Runs a coroutine function with a room that is empty."""

    def run(work: Callable[[Browser], Awaitable[None]]) -> None:
        async def within() -> None:
            async with opened(server, kv.prefix) as browser:
                await work(browser)

        asyncio.run(within())

    return run


def test_thirty_participants_at_once(in_room: Any) -> None:
    async def work(room: Browser) -> None:
        async def takes_part(number: int) -> None:
            token = await room.token(f"Person {number}")
            for first in range(number % 4):
                await room.report(token, first, [event("05-short", first == 2)])
            answer = "never" if number < 20 else "at once"
            sent = {
                "kind": "prediction",
                "question": "05-stuck",
                "answer": answer,
                "words": "When?",
            }
            await room.report(token, number % 4, [sent])

        await asyncio.gather(*map(takes_part, range(30)))
        state = await room.state()
        items = [one["exercises"].get("05-short", {}) for one in state["people"]]
        assert len(items) == 30
        assert sum(bool(item.get("solved")) for item in items) == 7  # 3, 7, 11 … 27
        assert sum(item.get("since") is not None for item in items) == 15
        assert [one["solved"] for one in state["people"]] == [1] * 7 + [0] * 23
        answers = [(one["answer"], one["count"]) for one in state["predictions"][0]["answers"]]
        assert answers == [("never", 20), ("at once", 10)]
        assert state["predictions"][0]["words"] == "When?"

    in_room(work)


def test_an_event_that_comes_twice_counts_once_and_a_gap_is_asked_for(in_room: Any) -> None:
    async def work(room: Browser) -> None:
        token = await room.token("Ann")
        sent = [event("05", False), event("05", False), event("05", True)]
        for first, part, wanted in ((0, sent[:2], 2), (0, sent, 3), (5, sent, 3), (1, sent[1:], 3)):
            assert (await room.report(token, first, part)).json()["next"] == wanted
        assert (await room.row("Ann"))["exercises"]["05"]["checks"] == 3
        assert (await room.row("Ann"))["solved"] == 1

    in_room(work)


def test_nobody_changes_the_row_of_another(in_room: Any) -> None:
    async def work(room: Browser) -> None:
        ann = await room.token("Ann")
        await room.report(ann, 0, [event("05", True)])
        before = await room.row("Ann")
        for name in ("Ann", "ANN", " ann ", "Ａnn"):
            assert (await room.join(name, "another secret, long enough")).status_code == 409
        for token in ("", "x" * 43, ann[:-1], "\xff"):
            assert (await room.report(token, 1, [event("05", False)])).status_code in (401, 422)
        assert (await room.join("Mallory", code="WRONG2")).status_code == 403
        mallory = await room.token("Mallory")
        await room.report(mallory, 0, [event("05", False) | {"name": "Ann", "user": "ann"}])
        assert await room.row("Ann") == before

    in_room(work)


@pytest.mark.parametrize("name", ["", " ", "x" * 41, "a\x00b", "\u202eevil", "\ud800", 5, None])
def test_a_name_is_short_and_can_be_shown(in_room: Any, name: Any) -> None:
    async def work(room: Browser) -> None:
        body = {"code": CODE, "name": name, "secret": "x" * 20}
        content = json.dumps(body)  # httpx's own dump refuses a lone surrogate
        assert (await room.http.post("/join", content=content)).status_code == 422
        assert (await room.state())["people"] == []

    in_room(work)


HOSTILE: list[Any] = [
    None,
    [],
    {"kind": ["check"]},
    {"kind": "check", "exercise": "99", "passed": True},
    {"kind": "check", "exercise": {"a": 1}, "passed": True},
    {"kind": "check", "exercise": "05", "passed": "yes", "failed": "<b>" * 99, "at": 10**400},
    {"kind": "check", "exercise": "05", "passed": 1, "failed": [None, "<script>" * 99], "at": -1},
    {"kind": "hint", "exercise": "05", "rung": 10**9},
    {"kind": "prediction", "question": "q" * 999, "answer": ["a"], "right": "yes"},
]


def test_hostile_events_are_cut_to_size_and_solve_nothing(in_room: Any) -> None:
    async def work(room: Browser) -> None:
        token = await room.token("<img src=x onerror=alert(1)>")
        content = json.dumps({"first": 0, "events": HOSTILE})
        headers = {"Authorization": f"Bearer {token}"}
        said = await room.http.post("/events", content=content, headers=headers)
        assert said.json()["next"] == len(HOSTILE)
        row = await room.row("<img src=x onerror=alert(1)>")
        assert row["solved"] == 0
        assert set(row["exercises"]) == {"05"}
        assert row["exercises"]["05"]["checks"] == 2
        assert [len(question) for question in row["predictions"]] == [events.MAX_TEXT]
        assert len(str(row)) < 2_000

    in_room(work)


@pytest.mark.parametrize(
    "body", ["", "[]", "nonsense", "[" * 50_000, '{"first": -1, "events": []}']
)
def test_a_body_that_is_no_report_is_refused(in_room: Any, body: str) -> None:
    async def work(room: Browser) -> None:
        headers = {"Authorization": f"Bearer {await room.token('Ann')}"}
        said = await room.http.post("/events", content=body, headers=headers)
        assert said.status_code == 422

    in_room(work)


def test_a_flood_is_refused_and_costs_the_others_nothing(in_room: Any) -> None:
    async def work(room: Browser) -> None:
        mallory, ann = await room.token("Mallory"), await room.token("Ann")
        answers = [await room.report(mallory, 0, [event("05", False)]) for _ in range(130)]
        assert [one.status_code for one in answers].count(429) == 10
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert (await room.report(mallory, 0, [{}] * 101)).status_code == 429
        assert (await room.report(ann, 0, [event("05", True)])).json()["next"] == 1
        assert (await room.report(ann, 1, [{}] * 101)).status_code == 422
        big = await room.http.post("/events", content=b"x" * (app.MAX_BODY + 1))
        assert big.status_code == 413

    in_room(work)


def test_so_many_events_are_kept_and_no_more(in_room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvlab.workshop.room.room.MAX_EVENTS", 5)

    async def work(room: Browser) -> None:
        token = await room.token("Mallory")
        for _ in range(2):
            said = await room.report(token, 0, [event("05", False)] * 9)
            assert said.json()["next"] == 5
        assert (await room.row("Mallory"))["exercises"]["05"]["checks"] == 5

    in_room(work)


def test_the_trainer_opens_and_starts_the_clock_and_nobody_else(in_room: Any) -> None:
    async def work(room: Browser) -> None:
        ann = await room.token("Ann")
        opening = {"exercise": "05", "what": "solution", "open": True}
        for path, body in (("/release", opening), ("/clock", {"minutes": 15})):
            assert (await room.post(path, body, ann)).status_code == 403
            assert (await room.post(path, body, KEY)).status_code == 200
        assert (await room.http.get("/state")).status_code == 403
        said = (await room.report(ann, 0, [])).json()
        assert "solution-05" in said["open"]
        assert "solution-01" not in said["open"]
        assert said["ends"] - said["now"] == 15 * 60
        assert (await room.http.get("/openings")).json()["ends"] == said["ends"]
        wrong = [("/release", opening | {"exercise": "x"}), ("/clock", {"minutes": -1})]
        for path, body in [*wrong, ("/clock", {"minutes": "soon"})]:
            assert (await room.post(path, body, KEY)).status_code == 422

    in_room(work)


def test_the_page_shows_text_and_loads_nothing(in_room: Any) -> None:
    async def work(room: Browser) -> None:
        said = await room.http.get("/")
        assert "default-src 'none'" in said.headers["Content-Security-Policy"]
        assert not re.search(r"innerHTML|https?://|eval\(", said.text)
        foreign = {"Host": "rebound.example"}
        assert (await room.http.get("/", headers=foreign)).status_code == 400

    in_room(work)


def test_all_exercises_are_seen_on_a_small_projector(in_room: Any, tmp_path: Path) -> None:
    """Each exercise of the table, and what a button does; the control is a phone, which scrolls."""
    if browser.program() is None:
        pytest.skip("no Chromium: on Debian, apt-get install chromium")
    states: list[dict[str, Any]] = []

    async def work(room: Browser) -> None:
        await room.token("Bartholomew Montgomery-Featherstone")
        states.append(await room.state())

    in_room(work)
    cells = {
        e["number"]: {"checks": 12, "since": NOW - 3_000, "failed": []}
        for e in states[0]["exercises"]
    }
    states[0]["people"][0]["exercises"] = cells
    answer = f"({{ok: true, json: async () => ({json.dumps(states[0])})}})"
    page = app.PAGE.replace('"use strict";', f"window.fetch = async () => {answer};")
    (tmp_path / "room.html").write_text(page, encoding="utf-8")
    with browser.browsing(tmp_path) as tab:
        tab.open((tmp_path / "room.html").as_uri() + "#key")
        tab.until("document.querySelector('#releases button')")
        assert tab.value("document.querySelector('#releases td + td').textContent") == (
            "open close hints"
        )
        scrolls = {}
        for width in (1300, 800, 400):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            tab.call("Emulation.setDeviceMetricsOverride", **size)
            scrolls[width] = tab.value("solved.scrollWidth > solved.clientWidth")
    assert scrolls == {1300: False, 800: False, 400: True}


def test_a_browser_at_the_address_of_the_room_is_told_how_to_join(in_room: Any) -> None:
    async def work(room: Browser) -> None:
        joining = await room.http.get("/ABC234")
        assert "kvlab lab --room http://127.0.0.1/ABC234 --name NAME" in joining.text
        for other in ("/abc", "/ABC23%3C"):
            assert (await room.http.get(other)).status_code == 404
        assert (await room.http.get("/openings")).json()

    in_room(work)


def test_one_server_keeps_participants_apart() -> None:
    async def work() -> None:
        options = {"requirepass": "admin"}
        with engines.start("valkey", options=options) as running:
            url = running.url.replace("redis://", "redis://:admin@")
            async with await kvlab.aconnect(url, prefix="room") as akv:
                room = Room(akv, CODE, KEY, one_server=OneServer(akv, url, KEY))
                names = ("A", "A", "B")
                joined = [await room.join(CODE, name, name * 20, "address") for name in names]
            line = Line(Membership("", CODE, "A", ""), server=joined[0]["server"])
            assert line.environment["KVLAB_PREFIX"] == joined[0]["server"]["prefix"]
            assert joined[0]["server"] == joined[1]["server"]
            _is_kept_apart(joined[0]["server"], joined[2]["server"])

    asyncio.run(work())


def _is_kept_apart(ann: dict[str, str], bob: dict[str, str]) -> None:
    put, lock = kvlab.Op("SET", kvlab.Key("k"), 1, "EX", 60), kvlab.Lock("l", 10)
    with kvlab.connect(**ann) as mine, kvlab.connect(**bob) as other:
        for kv in (mine, other):
            assert kv.run(put, lock.try_acquire())[1] is not None
            assert "redis_version" in kv.client.info("server")
        assert mine.clear() >= 2
        assert other.run(kvlab.Op("GET", kvlab.Key("k"))) == b"1"
        for command in (["GET", f"{other.prefix}k"], ["FLUSHALL"], ["KEYS", "*"], ["ACL", "LIST"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                mine.client.execute_command(*command)


# --- the real command, and a participant's side ---


@contextmanager
def running_room(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``kvlab room`` in a process of its own, and the address for participants."""
    command = [sys.executable, "-m", "kvlab", "room", f"--folder={folder}", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(3)]
        yield process, lines[1].split()[4]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkingCopy:
    folder = tmp_path / "copy"
    folder.mkdir()
    (folder / ".kvlab-workbook.json").write_text("{}")
    monkeypatch.chdir(folder)
    return WorkingCopy(folder)


def test_killed_in_the_middle_nothing_is_lost(
    copy: WorkingCopy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KVLAB_URL", raising=False)
    log = log_of(copy)
    with running_room(tmp_path / "room", 0) as (process, room):
        line = Line(membership(copy, room, "Ann"))
        line.join()
        for passed in (False, True):
            log.note("check", exercise="05", passed=passed, failed=[])
            assert line.exchange(log.events())["next"] == 1 + passed
        with pytest.raises(RoomRefused, match="somebody else in this room has this name"):
            Line(membership(WorkingCopy(tmp_path), room, "Ann")).join()
        process.send_signal(signal.SIGKILL)
        process.wait()
    log.note("check", exercise="06", passed=True, failed=[])
    with pytest.raises(OSError):
        line.exchange(log.events())
    port = int(room.split(":")[2].split("/")[0])
    with running_room(tmp_path / "room", port) as (_, again):
        assert again == room
        ended = threading.Event()
        monkeypatch.setattr("kvlab.workshop.learner.membership._SECONDS", 0.01)
        follower = threading.Thread(target=follow, args=(copy, line, ended))
        follower.start()
        try:
            for _ in range(6_000):
                if line.wanted == 3 and membership_of(copy).opened:  # type: ignore[union-attr]
                    break
                ended.wait(0.01)
        finally:
            ended.set()
            follower.join()
        assert line.exchange(log.events())["next"] == 3
    assert hint("05").rung == 1
    closed = hint("05", 4)
    assert str(closed) == "Exercise 05\n\nthe trainer has not opened the solution of 05 yet"
    leave(copy)
    assert "def job(" in hint("05", 4).text
    assert membership(copy, room, "Ann").secret == line.member.secret


def test_an_address_without_a_code_is_told(copy: WorkingCopy) -> None:
    for wrong in ("http://127.0.0.1:8765", "127.0.0.1/ABC", "ftp://x/ABC"):
        with pytest.raises(KvlabError, match="--room must be http://HOST:PORT/CODE"):
            membership(copy, wrong, "Ann")
