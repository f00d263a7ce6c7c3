"""The leaderboard over HTTP. Anybody may submit any score; a real one has a game server submit.

Members travel in the query, not in the path, because a name may hold a slash.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query

from kvlab.leaderboard.board import MAX_ENTRIES
from kvlab.leaderboard.values import Entry
from kvlab.sample_app.models import (
    CROSS_ORIGIN,
    INVALID,
    STORE_DOWN,
    TAKES_BODY,
    Answers,
    Member,
    NewScore,
    Standing,
    Standings,
    Submitted,
    problem,
)
from kvlab.sample_app.services import BOARD, Shared

router = APIRouter(prefix="/api/board", tags=["board"])

Who = Annotated[Member, Query()]
OpId = Annotated[
    str | None,
    Header(
        pattern=r"^[!-~]{1,200}$",
        description="the id of this submission: repeated with the same body, it counts once",
    ),
]
_BEYOND: Answers = {409: problem("a score beyond what a board counts exactly, or a key in use")}
_READS = INVALID | STORE_DOWN
_ABSENT: Answers = {404: problem("the member is not on the board")}


@router.post(
    "/scores",
    responses=TAKES_BODY | STORE_DOWN | CROSS_ORIGIN | _BEYOND,
)
async def submit(body: NewScore, shared: Shared, idempotency_key: OpId = None) -> Submitted:
    """Give a member a score: set the score, raise it to a better one, or add to it. After an answer
    of 503 with `applied` null, the submission may have counted: repeat it with the same
    Idempotency-Key."""
    done = await shared.kv.run(
        BOARD.submit(body.member, body.score, body.mode, op_id=idempotency_key)
    )
    return Submitted(accepted=done.accepted, entry=_standing(done.entry))


@router.get("/top", responses=_READS)
async def top(shared: Shared, n: Annotated[int, Query(ge=0, le=MAX_ENTRIES)] = 10) -> Standings:
    """The first n members."""
    return _standings(await shared.kv.run(BOARD.top(n)))


@router.get("/rank", responses=_READS | _ABSENT)
async def rank(shared: Shared, member: Who) -> Standing:
    """Where a member stands."""
    entry = await shared.kv.run(BOARD.rank(member))
    if entry is None:
        raise HTTPException(404, "the member is not on the board")
    return _standing(entry)


@router.get("/around", responses=_READS | _ABSENT)
async def around(
    shared: Shared, member: Who, n: Annotated[int, Query(ge=0, le=MAX_ENTRIES // 2)] = 2
) -> Standings:
    """A member with n neighbours on each side, all from one instant."""
    entries = await shared.kv.run(BOARD.around(member, n))
    if entries is None:
        raise HTTPException(404, "the member is not on the board")
    return _standings(entries)


def _standing(entry: Entry) -> Standing:
    return Standing(**asdict(entry))


def _standings(entries: list[Entry]) -> Standings:
    return Standings(entries=[_standing(entry) for entry in entries])
