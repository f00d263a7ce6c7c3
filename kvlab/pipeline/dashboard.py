"""A user's dashboard: four reads in one round trip."""

from __future__ import annotations

from collections.abc import Sequence

from kvlab.core.checks import Id
from kvlab.core.key import Key, segment
from kvlab.core.op import Op


def dashboard(
    user: Id,
) -> tuple[Op[bytes | None], Op[bytes | None], Op[list[bytes]], Op[dict[bytes, bytes]]]:
    """Four ops: profile, settings, the five newest notifications and the stats of a user.

    ``profile, settings, news, stats = kv.run(*dashboard(7))``: one round trip. The keys share a
    hash slot, so the ops also run ``atomic`` and on Cluster.
    """
    key = f"user:{{{segment(user, 'user')}}}:"
    return (
        Op("GET", Key(key + "profile"), idempotent=True),
        Op("GET", Key(key + "settings"), idempotent=True),
        Op("ZRANGE", Key(key + "notifications"), 0, 4, "REV", idempotent=True),
        Op("HGETALL", Key(key + "stats"), decode=_pairs, idempotent=True),
    )


def _pairs(reply: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2], strict=True))
