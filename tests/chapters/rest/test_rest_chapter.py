"""What the chapter on stores behind HTTPS shows is computed, and the patterns hold there."""

from __future__ import annotations

from collections.abc import Callable

import redis

from kvlab import Key, Kv, Op
from kvlab.chapters.rest.capabilities import ABILITIES, capabilities
from kvlab.chapters.rest.visits import VISITS, time_of_visits, visits_chart

Clients = Callable[[str], redis.Redis]


def test_the_table_says_what_is_missing_over_http(kv: Kv, client_of: Clients) -> None:
    with Kv(client_of("rest"), prefix=kv.prefix) as http:
        table = capabilities({"TCP": kv, "HTTP": http})
    assert list(table.index) == list(ABILITIES)
    assert set(table["TCP"]) == {"yes"}
    missing = table[table["HTTP"] != "yes"]
    assert set(missing["HTTP"]) == {"no: NotOverHttp"}
    assert len(missing) == 3
    assert all(missing["instead"])
    assert not any(table[table["HTTP"] == "yes"]["instead"])


def test_a_visit_is_one_request_in_one_run(kv: Kv, client_of: Clients) -> None:
    ops: list[Op[object]] = [Op("INCR", Key(f"n:{i}")) for i in range(4)]
    with Kv(client_of("rest"), prefix=kv.prefix) as http:
        frame = time_of_visits({"TCP": kv, "HTTP": http}, ops, turns=2)
    assert list(frame["round trips"]) == [4, 1, 4, 1]
    assert (frame["ms"] > 0).all()
    assert frame.attrs["saved"].ratio > 1
    assert visits_chart(frame).axes[0].get_title(loc="left") or visits_chart(frame).get_suptitle()
    assert kv.run(Op("GET", Key("n:0"))) == b"%d" % (4 * VISITS * 4)
