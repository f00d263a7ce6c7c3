"""The request that the load tests load: limit, session and flags in one round trip.

The limiter's key is the visitor's address, which no untrusted header can change. No operation id
comes from the request: with an id of their own choice, visitors could make many hits count once.
"""

from __future__ import annotations

import math
from typing import Any

from fastapi import APIRouter, Response

from kvlab.sample_app.errors import RETRY_AFTER, answer
from kvlab.sample_app.models import CROSS_ORIGIN, LIMITS, SET_COOKIE, STORE_DOWN, Work, header
from kvlab.sample_app.services import FLAGS, SESSIONS, Asking, Shared, set_cookie, who

router = APIRouter(tags=["work"])

_DONE: dict[str, Any] = {"description": "done", "headers": LIMITS | SET_COOKIE}
_DENIED: dict[str, Any] = {
    "model": Work,
    "description": "over the limit",
    "headers": LIMITS
    | SET_COOKIE
    | {"Retry-After": header("seconds until this hit fits; absent for never", kind="integer")},
}


@router.post(
    "/api/work",
    response_model=Work,
    responses={200: _DONE, 429: _DENIED, **STORE_DOWN, **CROSS_ORIGIN},
)
async def work(shared: Shared, visitor: Asking) -> Response:
    """Use up one unit of the visitor's limit. While the store is down, the declared policy
    decides: everybody works (then `decided_at` is null), or nobody (503)."""
    decision, session, flags = await shared.kv.run(
        shared.settings.limiter.hit(visitor.address),
        SESSIONS.read(visitor.sid),
        FLAGS.read_all(),
    )
    if decision.at is None and not decision.allowed:
        detail = "the store gave no answer; the work was not done"
        return answer(503, detail, headers=RETRY_AFTER | decision.headers())
    user = who(session)
    done = Work(
        allowed=decision.allowed,
        limit=decision.limit,
        remaining=decision.remaining,
        retry_after=None if math.isinf(decision.retry_after) else decision.retry_after,
        reset_after=decision.reset_after,
        decided_at=decision.at,
        user=user,
        version="v2" if flags.is_enabled("work-v2", user or visitor.address) else "v1",
    )
    return Response(
        done.model_dump_json(),
        200 if decision.allowed else 429,
        headers=decision.headers() | set_cookie(visitor, session),
        media_type="application/json",
    )
