"""Events of participants: checked one by one, and added up to one row a participant."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from kvlab.errors import InvalidArgument
from kvlab.workshop import exercises

MAX_NAME = 40
MAX_TEXT = 80
MAX_EVENTS = 2_000
"""So many events of one participant are kept; a day has a few hundred."""

Event = Mapping[str, Any]
_KNOWN = frozenset(exercise.number for exercise in exercises.every())


def checked_name(name: object) -> str:
    """A name as it is shown. Raises InvalidArgument for one that is empty, long or unprintable."""
    plain = unicodedata.normalize("NFKC", name).strip() if isinstance(name, str) else ""
    if not plain or len(plain) > MAX_NAME or not plain.isprintable():
        raise InvalidArgument(f"a name has 1 to {MAX_NAME} printable characters")
    return " ".join(plain.split())


def checked_event(event: object, now: float) -> dict[str, Any]:
    """What is kept of an event; ``{}`` of one that says nothing. ``now`` is the room's own time."""
    if not isinstance(event, dict):
        return {}
    sent = event.get("at")
    at = now
    if isinstance(sent, int | float) and now - 86_400 < sent < now:
        at = float(sent)
    kept: dict[str, Any] = {"at": at, "kind": event.get("kind")}
    exercise = event.get("exercise")
    known = isinstance(exercise, str) and exercise in _KNOWN
    if kept["kind"] == "check" and known:
        failed = event.get("failed")
        names = [_cut(name) for name in failed[:10]] if isinstance(failed, list) else []
        return kept | {"exercise": exercise, "passed": event.get("passed") is True, "failed": names}
    if kept["kind"] == "hint" and known and event.get("rung") in (1, 2, 3, 4):
        return kept | {"exercise": exercise, "rung": event["rung"]}
    if kept["kind"] == "prediction" and isinstance(event.get("question"), str):
        right = event.get("right") if isinstance(event.get("right"), bool) else None
        answer, words = _cut(event.get("answer")), _cut(event.get("words", ""))
        asked = {"question": _cut(event["question"]), "words": words}
        return kept | asked | {"answer": answer, "right": right}
    return {}


def _cut(value: object) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.3g}"
    plain = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else "?"
    return "".join(letter for letter in plain[:MAX_TEXT] if letter.isprintable())


def row_of(events: Iterable[Event]) -> dict[str, Any]:
    """One participant's row: each exercise with its checks, and each prediction.

    ``since`` is when the first check of an exercise failed that is not solved yet.
    """
    done: dict[str, dict[str, Any]] = {}
    predictions: dict[str, dict[str, Any]] = {}
    last = 0.0
    for event in events:
        if not event:
            continue
        last = max(last, event["at"])
        if event["kind"] == "prediction":
            predictions[event["question"]] = {k: event[k] for k in ("answer", "right", "words")}
            continue
        item = done.setdefault(
            event["exercise"], {"checks": 0, "solved": None, "since": None, "failed": [], "rung": 0}
        )
        if event["kind"] == "hint":
            item["rung"] = max(item["rung"], event["rung"])
        else:
            _add_check(item, event)
    return {"exercises": done, "predictions": predictions, "last": last}


def _add_check(item: dict[str, Any], event: Event) -> None:
    item["checks"] += 1
    if event["passed"]:
        item["solved"] = event["at"] if item["solved"] is None else item["solved"]
        item["since"], item["failed"] = None, []
    elif item["solved"] is None:
        item["since"] = event["at"] if item["since"] is None else item["since"]
        item["failed"] = event["failed"]
