"""What the chapter's invariants ask about one explored run of workers A (client 0) and B (1)."""

from __future__ import annotations

from kvlab import fenced_get
from kvlab.instruments import World

LOCK_KEYS = ("lock:orders", "kv:lock:{orders}:held")
"""The keys of the simple and of the hardened lock, as they stand on the explorer's server."""


def began_after_expiry(world: World, client: int) -> bool:
    """Whether a TTL had ended in this run before the client's first step."""
    first = next(n for n, event in enumerate(world.trace) if event.client == client)
    return any(event.kind == "expire" for event in world.trace[:first])


def lock_is_taken(world: World) -> bool:
    """Whether a client holds the lock at the end of this run."""
    return bool(world.kv.exists(*LOCK_KEYS))


def waited_in_vain(world: World) -> bool:
    """Whether a blocking command waited until its end although nothing failed in this run."""
    return {event.kind for event in world.trace} == {"go", "time out"}


def what_the_row_says(world: World) -> str | None:
    """The row at the end of this run; None when nobody wrote.

    ``SET`` and ``fenced_set`` keep the row in two keys, and the workers of one run use one of them.
    """
    plain: bytes | None = world.kv.get("row")
    fenced: bytes | None = world.kv.run(fenced_get("row"))
    row = fenced if plain is None else plain
    return None if row is None else row.decode()
