"""The exercises of chapter 13: what an answer says; a transfer without a connection of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kvlab.errors import NotOverHttp
from kvlab.instruments import Story, World
from kvlab.workshop.exercises.exercise import TEXT, Exercise, Explore, data, each_key_ends, promise

# --- the short one: ran(status, text) ---

RESULT, ERROR = json.dumps({"result": 7}), json.dumps({"error": "ERR value is not an integer"})
PAGE = "<html>Bad gateway</html>"
WORDS = {True: "it ran", False: "it did not run", None: "nobody knows"}


def _must_say(ran: Any, status: int | None, text: str, wanted: bool | None) -> None:
    got = ran(status, text)
    said = f"status {status}, {text!r}: {WORDS[wanted]}"
    assert got is wanted, f"{said}, so {wanted}, not {got!r:.40}"


@promise("an answer of the store", "a result says that the op ran")
def result_ran(ran: Any, explore: Explore) -> None:
    _must_say(ran, 200, RESULT, True)
    _must_say(ran, 200, json.dumps({"result": None}), True)


@promise("a refusal", "no connection, a wrong token, too many requests: it did not run")
def refused(ran: Any, explore: Explore) -> None:
    _must_say(ran, None, "", False)
    _must_say(ran, 400, ERROR, False)
    _must_say(ran, 401, json.dumps({"error": "WRONGPASS"}), False)
    _must_say(ran, 429, "slow down", False)


@promise("a machine between", "a gateway that fails, or a page that is no JSON: nobody knows")
def unknown(ran: Any, explore: Explore) -> None:
    for status in (500, 502, 503, 504):
        _must_say(ran, status, PAGE, None)
    _must_say(ran, 200, PAGE, None)
    _must_say(ran, 504, ERROR, None)


@promise("half an answer", "JSON that is no object, or has no result: nobody knows")
def half_an_answer(ran: Any, explore: Explore) -> None:
    _must_say(ran, 200, RESULT[:-4], None)
    _must_say(ran, 200, "[]", None)
    _must_say(ran, 200, "{}", None)


# --- the longer one: transfer(post, number, amount) ---

HELD = {"WATCH", "UNWATCH", "MULTI", "EXEC", "DISCARD", "BLPOP", "BRPOP", "SUBSCRIBE", "SELECT"}
Client = Callable[[Any], Any]


def _over_http(kv: Any) -> Callable[..., Any]:
    """``post`` of a client: one command, one request. The next may come by another connection."""

    def post(*command: Any) -> Any:
        words = [str(word) for word in command]
        name = words[0].upper() if words else ""
        if name in HELD:
            raise NotOverHttp(f"{name} needs a connection that stays open, and HTTP has none")
        return kv.execute_command(*words)

    return post


def _moves(transfer: Any, *numbers: str, amount: int = 3) -> Client:
    def moves(kv: Any) -> list[Any]:
        return [transfer(_over_http(kv), number, amount) for number in numbers]

    return moves


def _accounts(kv: Any) -> None:
    kv.mset({"ann": 5, "bob": 0})


def _sum_is_kept(world: World) -> tuple[int, int]:
    """What both have now. Raises AssertionError when money was made or lost, or has no end."""
    ann, bob = (int(data(world).get(name) or 0) for name in ("ann", "bob"))
    assert ann + bob == 5, f"Ann has {ann}, Bob has {bob}: together they had 5"
    assert ann >= 0, f"Ann has {ann}: less than nothing"
    each_key_ends(world, "one key more for each transfer", "ann", "bob")
    return ann, bob


def _explored(explore: Explore, clients: Any, must_be: Any, **faults: bool) -> Story:
    return explore(clients, setup=_accounts, invariant=must_be, client_options=TEXT, **faults)


@promise("enough, or not", "3 of 5 are moved; then 3 of 2 are refused, and nothing changes")
def enough_or_not(transfer: Any, explore: Explore) -> Story:
    def must_be(world: World) -> bool:
        ann, bob = _sum_is_kept(world)
        (said,) = world.results
        assert said == [True, False], f"True, then False: not {said}"
        assert (ann, bob) == (2, 3), f"Ann has {ann}, Bob has {bob}: 2 and 3 are right"
        return True

    return _explored(explore, {"page": _moves(transfer, "t1", "t2")}, must_be)


@promise("two at once", "two transfers of 3: one is refused, in every order")
def two_at_once(transfer: Any, explore: Explore) -> Story:
    def must_be(world: World) -> bool:
        ann, _ = _sum_is_kept(world)
        assert sorted(world.results) == [[False], [True]], f"two answers: {world.results}"
        assert ann == 2, f"one transfer of 3 was moved, and Ann has {ann} of 5"
        return True

    clients = {"page": _moves(transfer, "t1"), "phone": _moves(transfer, "t2")}
    return _explored(explore, clients, must_be)


@promise("asked for again", "the same number moves once, and gets the same answer")
def again(transfer: Any, explore: Explore) -> Story:
    def must_be(world: World) -> bool:
        ann, _ = _sum_is_kept(world)
        (said,) = world.results
        assert ann == 4, f"one transfer of 1 was asked for twice, and Ann has {ann} of 5"
        assert said == [True, True], f"one transfer, two answers: {said}"
        return True

    return _explored(explore, {"page": _moves(transfer, "t1", "t1", amount=1)}, must_be)


@promise("a lost answer", "the request is sent again, and the transfer is moved once")
def answer_lost(transfer: Any, explore: Explore) -> Story:
    def must_be(world: World) -> bool:
        ann, _ = _sum_is_kept(world)
        assert ann == 4, f"one transfer of 1, one lost answer, and Ann has {ann} of 5"
        assert world.results == [[True]], (
            f"the transfer was moved, and the answer is {world.results}"
        )
        return True

    clients = {"page": _moves(transfer, "t1", amount=1)}
    return _explored(explore, clients, must_be, lost_replies=True)


@promise("a crash", "wherever the page crashes and asks again, the transfer is moved once")
def page_crashes(transfer: Any, explore: Explore) -> Story:
    def must_be(world: World) -> bool:
        ann, _ = _sum_is_kept(world)
        if [True] in world.results:
            assert ann == 4, f"one transfer of 1 was asked for twice, and Ann has {ann} of 5"
        ended = [said for said in world.results if isinstance(said, list)]
        assert ended in ([], [[True]], [[True], [True]]), f"one transfer, two answers: {ended}"
        return True

    attempts = {"page": _moves(transfer, "t1", amount=1), "again": _moves(transfer, "t1", amount=1)}
    return _explored(explore, attempts, must_be, crashes=True)


EXERCISES = (
    Exercise(
        number="13-short",
        function="ran",
        title="did it run?",
        minutes=10,
        hints=(
            "Who answered: the store, or a machine between you and the store? What can that "
            "machine know?",
            "Only two things are certain: an object with a result in a 200 ran, and a refusal "
            "(no connection, 4xx) did not run. All else is None.",
            "if status is None or 400 <= status < 500: return False; then try json.loads(text), "
            "and look for 'result' in an object.",
        ),
        promises=(result_ran, refused, unknown, half_an_answer),
    ),
    Exercise(
        number="13",
        function="transfer",
        title="a transfer in one request",
        minutes=25,
        hints=(
            "Between two of your requests everything may happen, and no WATCH tells you. How many "
            "requests may a transfer have?",
            "EVAL is one command, so it is one request: look at Ann's money, and move it, in one "
            "script. What does the script find when it is sent again?",
            "The script keeps what it answered: SET KEYS[3] 1 or 0 with EX, in the script. It "
            "begins with a GET of that key, and returns what it finds there.",
        ),
        promises=(enough_or_not, two_at_once, again, answer_lost, page_crashes),
    ),
)
