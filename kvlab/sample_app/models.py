"""Requests and answers of the sample app, as in its OpenAPI description.

Bodies are strict: a number in quotes is no number, and an unknown field is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from kvlab.leaderboard.values import MAX_SCORE

Answers = dict[int | str, dict[str, Any]]


class Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Problem(BaseModel):
    """Why the request failed.

    ``applied``: false when nothing was changed; null when nobody knows (the store was asked and
    did not answer). A request that is repeated with the same Idempotency-Key counts once.
    """

    status: int
    title: str
    detail: str
    applied: bool | None = False


# --- work -----------------------------------------------------------------------------------


class Work(BaseModel):
    """Whether the work was done, and what the limiter decided.

    ``decided_at``: the store's clock in Unix seconds, to the microsecond; null when the store
    gave no answer and the declared policy decided. ``retry_after``: seconds until one more hit
    fits; null for never.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after: float | None
    reset_after: float
    decided_at: float | None
    user: str | None
    version: Literal["v1", "v2"] = Field(description="the version that the flag work-v2 selects")


# --- people ---------------------------------------------------------------------------------

UserName = Annotated[
    str,
    Field(
        pattern=r"^(admin|c([1-9][0-9]{0,2}|1000))$",
        description="a customer of the sample database, c1 to c1000, or admin; no password",
        examples=["c7"],
    ),
]
Theme = Literal["auto", "light", "dark"]
Plain = r"^[^\x00-\x1f\x7f]*$"  # no control characters


class Login(Body):
    user: UserName


class ThemeChoice(Body):
    theme: Theme


class Me(BaseModel):
    """The visitor. ``expires``: when an unused session ends, Unix seconds."""

    user: str | None
    theme: Theme
    expires: float | None


class ProfileChange(Body):
    name: Annotated[str, Field(min_length=1, max_length=200, pattern=Plain)] | None = None
    email: Annotated[str, Field(max_length=200, pattern=r"^[!-?A-~]+@[!-?A-~]+$")] | None = None


class Profile(BaseModel):
    """What everybody may see of a customer. ``cached``: the answer came from the cache."""

    id: int
    name: str
    orders: int
    total_cents: int
    last_order: str | None
    spending_rank: int | None
    version: int
    cached: bool


class OwnProfile(Profile):
    email: str


CustomerId = Annotated[int, Field(ge=1, le=1_000_000)]


# --- board ----------------------------------------------------------------------------------

Member = Annotated[str, Field(min_length=1, max_length=200)]


class NewScore(Body):
    member: Member
    score: Annotated[float, Field(ge=-MAX_SCORE, le=MAX_SCORE, allow_inf_nan=False)]
    mode: Literal["set", "best", "add"] = "set"


class Standing(BaseModel):
    rank: int
    member: str
    score: int | float


class Submitted(BaseModel):
    accepted: bool
    entry: Standing


class Standings(BaseModel):
    entries: list[Standing]


# --- flags ----------------------------------------------------------------------------------

FlagName = Annotated[str, Field(pattern="^[a-z0-9-]{1,64}$")]


def _whole(value: object) -> object:
    """5.0 is a whole number in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class FlagChange(Body):
    percent: Annotated[
        int,
        Field(ge=0, le=100, description="of the users; 0 off, 100 on"),
        BeforeValidator(_whole),
    ]


class Flags(BaseModel):
    """Every flag for the visitor, all of one version; version 0: the declared defaults."""

    version: int
    flags: dict[str, bool]


class FlagVersion(BaseModel):
    version: int


class Health(BaseModel):
    status: Literal["ok"]


# --- documented answers --------------------------------------------------------------------


def header(text: str, *, required: bool = False, kind: str = "string") -> dict[str, Any]:
    return {"description": text, "required": required, "schema": {"type": kind}}


RETRY_AFTER = {"Retry-After": header("seconds", required=True, kind="integer")}
SET_COOKIE = {"Set-Cookie": header("the session's cookie, when there is a session")}
LIMITS = {
    "RateLimit-Policy": header("draft-ietf-httpapi-ratelimit-headers-11", required=True),
    "RateLimit": header("what remains and for how long; absent when the store gave no answer"),
}


def problem(text: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"model": Problem, "description": text, "headers": headers or {}}


STORE_DOWN: Answers = {503: problem("the store gave no answer", RETRY_AFTER)}
MAY_SET_COOKIE: Answers = {200: {"headers": SET_COOKIE}}
INVALID: Answers = {422: problem("a value of the request is out of its range")}
CROSS_ORIGIN: Answers = {403: problem("a browser sent this for another site")}
TAKES_BODY: Answers = INVALID | {
    400: problem("the body cannot be read"),
    413: {
        "model": Problem,
        "description": "the body is larger than 64 KiB",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    },
}
NOT_LOGGED_IN: Answers = {
    401: problem("nobody is logged in", {"WWW-Authenticate": header("", required=True)})
}
