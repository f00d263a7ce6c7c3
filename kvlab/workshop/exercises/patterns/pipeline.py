"""Chapter 7: many prices in one round trip, and a transfer that is never half done."""

from __future__ import annotations

from typing import Any

from kvlab import Key, Op
from kvlab.instruments.explorer.run.steps import World
from kvlab.instruments.explorer.story import Story
from kvlab.workshop.exercises.exercise import Exercise, Explore, promise

# --- the short one: prices(kv, names) ---


def _shop(kv: Any) -> None:
    kv.run(
        Op("SET", Key("price:tea"), 3, "EX", 3600),
        Op("SET", Key("price:jam"), 5, "EX", 3600),
        Op("HSET", Key("price:odd"), "a", 1),
    )


def _asked(prices: Any, explore: Explore, names: list[str], wanted: dict[str, Any]) -> Story:
    def right(world: World) -> bool:
        got = world.results[0]
        assert got == wanted, f"prices({names}) is {wanted}, and it returned {got}"
        return True

    return explore({"page": lambda kv: prices(kv.kv, names)}, setup=_shop, invariant=right)


@promise("whole numbers by name", "prices returns a dict of name to int")
def by_name(prices: Any, explore: Explore) -> Story:
    return _asked(prices, explore, ["tea", "jam"], {"tea": 3, "jam": 5})


@promise("an absent price is None", "a name without a price and the other prices are right")
def absent(prices: Any, explore: Explore) -> Story:
    return _asked(prices, explore, ["tea", "none", "jam"], {"tea": 3, "none": None, "jam": 5})


@promise("a bad key fails alone", "a price that is no string is None, and the others are there")
def bad_key(prices: Any, explore: Explore) -> Story:
    return _asked(prices, explore, ["odd", "tea"], {"odd": None, "tea": 3})


@promise("one round trip", "whatever the number of names")
def one_round_trip(prices: Any, explore: Explore) -> Story:
    def asks(count: int) -> Story:
        names = [f"p{number}" for number in range(count)]

        def once(world: World) -> bool:
            trips = sum(bool(event.commands) for event in world.trace)
            assert trips == 1, f"{trips} round trips for {count:,} prices"
            return True

        return explore({"page": lambda kv: len(prices(kv.kv, names))}, invariant=once)

    few = asks(20)
    return asks(1200) if few.holds else few


# --- the long one: transfer(kv, source, target, amount) ---


def _accounts(kv: Any) -> None:
    kv.run(Op("SET", Key("{bank}:ada"), 100, "EX", 600))


def _money(world: World) -> list[int]:
    both = world.kv.run(Op("GET", Key("{bank}:ada")), Op("GET", Key("{bank}:bob")))
    return [int(amount or 0) for amount in both]


def _moves(transfer: Any, amount: int) -> Any:
    return lambda kv: transfer(kv.kv, "ada", "bob", amount)


@promise("the money moves", "30 of 100 are moved, and transfer answers True")
def moves(transfer: Any, explore: Explore) -> Story:
    def moved(world: World) -> bool:
        assert _money(world) == [70, 30], f"30 of 100 were moved: {_money(world)}, not [70, 30]"
        assert world.results[0], f"the money was moved, and transfer answered {world.results[0]!r}"
        return True

    return explore({"Ada": _moves(transfer, 30)}, setup=_accounts, invariant=moved)


@promise("too little is refused", "120 of 100: nothing changes, and transfer answers False")
def refuses(transfer: Any, explore: Explore) -> Story:
    def unchanged(world: World) -> bool:
        assert _money(world) == [100, 0], (
            f"Ada has 100, 120 were asked for, and now they have {_money(world)}"
        )
        answer = world.results[0]
        assert not answer, f"the transfer was not possible, and it answered {answer!r}"
        return True

    return explore({"Ada": _moves(transfer, 120)}, setup=_accounts, invariant=unchanged)


@promise("two at once", "two transfers of 60 from 100: one moves, one is refused")
def two_at_once(transfer: Any, explore: Explore) -> Story:
    def one_of_two(world: World) -> bool:
        money = _money(world)
        assert money == [40, 60], f"two transfers of 60 from 100 end with {money}, not [40, 60]"
        return sorted(map(bool, world.results)) == [False, True]

    return explore(
        {"phone": _moves(transfer, 60), "laptop": _moves(transfer, 60)},
        setup=_accounts,
        invariant=one_of_two,
    )


@promise(
    "a crash destroys nothing",
    "wherever the client crashes, the sum stays 100, and no account is below 0",
)
def crash(transfer: Any, explore: Explore) -> Story:
    def adds_up(world: World) -> bool:
        money = _money(world)
        assert sum(money) == 100, f"the client died in the middle, and {sum(money)} of 100 are left"
        assert min(money) >= 0, f"the client died in the middle, and an account has {min(money)}"
        return True

    def both(kv: Any) -> None:
        transfer(kv.kv, "ada", "bob", 30)
        transfer(kv.kv, "ada", "bob", 120)

    return explore(
        {"Ada": both}, setup=_accounts, invariant=adds_up, crashes=True, lost_replies=True
    )


EXERCISES = (
    Exercise(
        number="07-short",
        function="prices",
        title="a page in one round trip",
        minutes=10,
        hints=(
            "How often does your loop ask the server?",
            "kv.run(*ops) sends all ops at once. With return_exceptions=True an op that fails puts "
            "its error where its value would be.",
            "ops = [Op('GET', Key(f'price:{name}'), idempotent=True) for name in names]; then a "
            "reply that is bytes becomes int, and everything else None.",
        ),
        promises=(by_name, absent, bad_key, one_round_trip),
    ),
    Exercise(
        number="07",
        function="transfer",
        title="a transfer that is never half done",
        minutes=20,
        hints=(
            "Where is the money when you crash between taking and adding?",
            "atomic=True makes two ops one instant. Who looks whether there is enough, and when?",
            "Look, take, add in one script: Script('transfer', LUA), and Op(script, Key(source), "
            "Key(target), amount, decode=bool).",
        ),
        promises=(moves, refuses, two_at_once, crash),
    ),
)
