"""Hold one client before a command while something else happens: a race, told in steps.

slow = held(url, "SETEX", lambda client: NaiveSessions(client).update(sid, theme="dark"))
...                     # it has read and not yet written; let the rest of the world move on
result = slow()         # now it writes
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kvlab.errors import InvalidArgument
from kvlab.instruments.gate import HOLD_AT_MOST, GatedRedis, gated

T = TypeVar("T")


def held(url: str, before: str, work: Callable[[GatedRedis], T]) -> Callable[[], T]:
    """Run ``work(client)`` in a thread up to the first ``before`` (its name on the wire).

    Returns when the client stands there. What it returns lets the client go on, waits for it, and
    gives the result of ``work`` or raises what it raised. Raises ``InvalidArgument`` when the work
    ends without that command.
    """
    client = gated(url, before)
    with_one = ThreadPoolExecutor(1)
    running = with_one.submit(work, client)
    with_one.shutdown(wait=False)  # takes no more work; the thread ends with this one
    running.add_done_callback(lambda _: client.gate.reached.set())
    client.gate.reached.wait()
    if running.done():
        client.close()
        running.result()
        raise InvalidArgument(f"the work ended and never sent {before}")

    def go_on() -> T:
        client.gate.open()
        try:
            return running.result(HOLD_AT_MOST)
        finally:
            client.close()

    return go_on
