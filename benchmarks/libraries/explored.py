"""What the explorer finds of one library under one fault."""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.metadata
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.libraries.promises import FAULTS, Library, elsewhere
from kvlab.bench.matrix import Cell
from kvlab.errors import InvalidArgument, KvlabError
from kvlab.instruments import Story, World, explore
from kvlab.instruments.explorer.clients.blocking_commands import waits_in

URL = "redis://127.0.0.1:6379/0"
"""What the adapters get; the explorer leads every connection to a server of its own."""
MOST_SCHEDULES, MOST_SECONDS, MOST_STEPS = 4000, 20.0, 120


def version_of(library: Library) -> str:
    """As installed; "" for kvlab's own and for the tutorial's."""
    return importlib.metadata.version(library.package) if library.package else ""


def missing_of(library: Library) -> str:
    """Import what the library needs, before any run holds the clocks; "" or what is absent."""
    if elsewhere in library.clients:
        return library.undriven
    try:
        for module in library.modules:
            importlib.import_module(module)
    except ImportError as problem:
        return f"not installed: {problem}"
    return ""


def program(library: Library, number: int) -> Any:
    """A client of the library for the explorer."""
    client = library.clients[number]
    if inspect.iscoroutinefunction(client):

        async def arun(kv: Any) -> Any:
            return await client(kv, URL)

        return arun
    return lambda kv: client(kv, URL)


def tried_by_a_third(library: Library, kv: Any, url: str) -> Any:
    """What the first client's program returns when nobody else is there."""
    found = library.clients[0](kv, url)
    return asyncio.run(found) if inspect.iscoroutine(found) else found


def story_of(
    library: Library, fault: str, kinds: tuple[type[BaseException], ...], seconds: float
) -> tuple[Story, set[str]]:
    """Two clients, at most one fault in a run; and the blocking commands that they send."""
    waits: set[str] = set()

    def kept(world: World) -> bool:
        sent = [step.commands for step in world.trace if step.commands]
        waits.update(commands[0][0].decode() for commands in sent if waits_in(commands))
        third = functools.partial(tried_by_a_third, library, world.kv, URL)
        return library.family.invariant(world, third)

    story = explore(
        [program(library, 0), program(library, 1)],
        setup=library.setup,
        invariant=kept,
        expected=kinds,
        own_connections=True,
        reduce=True,
        max_schedules=MOST_SCHEDULES,
        max_seconds=seconds,
        max_steps=MOST_STEPS,
        progress=False,
        **FAULTS[fault],
    )
    return story, waits


def explored(
    library: Library, fault: str, seconds: float = MOST_SECONDS
) -> tuple[Cell, Story | None]:
    """The cell, and its story where there is one."""
    family = library.family
    cell = functools.partial(Cell, family.name, family.promise, library.name, library.package)
    if missing := missing_of(library):
        return cell("", fault, "can't be driven", missing), None
    version = version_of(library)
    if fault in family.meaningless:
        return cell(version, fault, "not applicable", family.meaningless[fault]), None
    try:
        story, waits = story_of(library, fault, expected_of(library), seconds)
    except (KvlabError, InvalidArgument) as problem:
        return cell(version, fault, "can't be driven", str(problem)), None
    judged = _judged(library, cell, fault, story)
    if judged.verdict in ("holds", "not applicable") and waits and fault.startswith("lost"):
        says = f"no loss at {', '.join(sorted(waits))} was searched: the explorer makes none there"
        judged = replace(judged, verdict="undecided", says=says)
    return judged, story


def _judged(library: Library, cell: Callable[..., Cell], fault: str, story: Story) -> Cell:
    version, inherent = version_of(library), library.family.inherent.get(fault)
    counted = {"schedules": story.schedules}
    if story.broken:
        assert story.shortest is not None
        silent = not any(step.commands for step in story.shortest.trace)
        if fault == "none" and (library.undriven or silent):
            why = library.undriven or story.shortest.problem or ""
            return cell(version, fault, "can't be driven", why)
        shown = {"replay": story.shortest.schedule, "timeline": str(story.shortest)}
        says = str(next(iter(story.broken)))
        if story.shortest.problem is not None:
            says = story.shortest.problem
        if inherent is not None:
            return cell(version, fault, "inherent", inherent, **counted, **shown)
        return cell(version, fault, "breaks", says, **counted, **shown)
    if fault != "none" and story.absent:
        return cell(version, fault, "not applicable", "the fault never comes", **counted)
    if story.verdict == "undecided":
        return cell(version, fault, "undecided", story.summary, **counted)
    return cell(version, fault, "holds", story.summary, **counted)


def expected_of(library: Library) -> tuple[type[BaseException], ...]:
    """The classes of the library's own exceptions by which its clients say no."""
    found = []
    for module in ("redis.exceptions", *library.modules, *_EXCEPTIONS):
        with_classes = vars(importlib.import_module(module)) if _is_there(module) else {}
        found += [with_classes[name] for name in library.expected if name in with_classes]
    return tuple(dict.fromkeys(found))


_EXCEPTIONS = (
    "pottery.exceptions",
    "sherlock.lock",
    "throttled.exceptions",
    "django.contrib.sessions.backends.base",
)


def _is_there(module: str) -> bool:
    try:
        importlib.import_module(module)
    except Exception:  # a part of Django that asks for settings
        return False
    return True


def round_trips(library: Library) -> int | None:
    """Of the first client alone, when scripts are loaded; None where it cannot be driven."""
    counts: list[int] = []

    def count(world: World) -> bool:
        counts.append(sum(bool(step.commands) for step in world.trace))
        return True

    if missing_of(library):
        return None
    alone = [program(library, 0)]
    try:
        explore(
            alone, setup=library.setup, invariant=count, own_connections=True, progress=False,
            expected=(Exception,), max_steps=MOST_STEPS, max_schedules=1,
        )  # fmt: skip
    except (KvlabError, InvalidArgument):
        return None
    return counts[-1] if counts else None
