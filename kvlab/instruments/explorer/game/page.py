"""The page of a game: one HTML file that needs no network and no server."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from kvlab.core.checks import text, whole
from kvlab.instruments.explorer.game.content import content_of, par_of
from kvlab.instruments.explorer.game.tree import tree_of
from kvlab.instruments.explorer.invariants import words_of
from kvlab.instruments.explorer.run.repeats import ADVICE
from kvlab.instruments.explorer.run.settings import Settings
from kvlab.instruments.explorer.search import Nondeterministic

TITLE = "Play the scheduler"
MOST_ENDS = 2000
_PIXELS = 640  # how high a notebook shows the page


@dataclass(frozen=True, slots=True)
class Explored:
    """What is known of an exploration before its game is made. ``reduced``: it left out runs."""

    schedules: int
    broken: int
    holds: bool
    complete: bool
    reduced: bool


@dataclass(frozen=True)
class Game:
    """A game to play. As the last value of a notebook cell it shows itself.

    * ``ends``: how many ends can be reached in it; ``broken``: how many of them break the promise;
      ``undecided``: of how many nobody knows.
    * ``complete``: it has every end of the exploration.
    * ``holds``: every end holds, here and in the whole exploration.
    * ``par``: the fewest steps in which the promise breaks; None where it is never broken.
    * ``html``: the page, which loads nothing else.
    """

    title: str
    ends: int
    broken: int
    undecided: int
    complete: bool
    holds: bool
    par: int | None
    html: str

    @property
    def summary(self) -> str:
        """One line."""
        return _summary(self.__dict__)

    def __repr__(self) -> str:
        return f"{self.title}: {self.summary}\nRun this cell to play."

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which has no rights; where frames are taken out, as on
        GitHub and in a notebook that is not trusted, its words are left."""
        page = html.escape(self.html, quote=False).replace("'", "&#39;")
        title, said = html.escape(self.title), html.escape(self.summary)
        style = f"width: 100%; height: {_PIXELS}px; border: 1px solid #8a8a8a80; border-radius: 8px"
        return (
            f"<p><b>{title}</b>: {said}.</p>\n<iframe title='{title}' sandbox='allow-scripts' "
            f"style='{style}' srcdoc='{page}'>Run this cell to play.</iframe>"
        )

    def save(self, path: str | Path) -> None:
        """Write the page."""
        Path(path).write_text(self.html, encoding="utf-8")


def game_of(
    settings: Settings,
    explored: Explored,
    *,
    schedule: str | None,
    title: str = TITLE,
    ends: int = MOST_ENDS,
) -> Game:
    """Explore once more, and make a game of it with so many ends at most.

    ``schedule``: the shortest broken run, which the game always has. Raises Nondeterministic when
    other runs are broken now than in the exploration before.
    """
    text("title", title)
    tree = tree_of(settings, ends=whole("ends", ends, 1), schedule=schedule)
    complete, broken = not tree.unexplored, tree.ended("broken")
    same = (explored.schedules, explored.broken) == (tree.ends, broken)
    if complete and explored.complete and not explored.reduced and not same:
        raise Nondeterministic(
            f"{explored.broken} of {explored.schedules} schedules were broken when this was "
            f"explored, and {broken} of {tree.ends} are now; {ADVICE}"
        )
    promise = "" if settings.invariant is None else words_of(settings.invariant)
    content = content_of(tree, settings, promise)
    known = {
        "title": title,
        **{name: content[name] for name in ("ends", "broken", "undecided")},
        "complete": complete,
        "holds": tree.ended("holds") == tree.ends and (complete or explored.holds),
        "par": par_of(content),
    }
    said = {"title": title, "summary": _summary(known)}
    return Game(**known, html=page_of(said | content))


def _summary(known: Mapping[str, Any]) -> str:
    ends, broken, undecided = (known[name] for name in ("ends", "broken", "undecided"))
    count = f"{ends:,} end{'s' * (ends != 1)}"
    more = "" if known["complete"] else f"; there are more ends than these {ends:,}"
    if broken:
        are = "is" if broken == 1 else "are"
        return f"{broken:,} of {count} {are} broken; fewest moves: {known['par']}{more}"
    if undecided:
        return f"{undecided:,} of {count} undecided{more}"
    if not known["holds"]:
        return f"{count} of many: none is broken, and nobody knows about the others"
    if not known["complete"]:
        return f"all ends hold, and {ends:,} of them are here: you cannot win"
    return f"{ends:,} of {count} hold{'s' * (ends == 1)}: you cannot win"


def page_of(content: Mapping[str, Any]) -> str:
    """The HTML of a content. What users wrote gets into the page as JSON alone, without a ``<``."""
    said = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        said = said.replace(character, f"\\u{ord(character):04x}")
    page = _part("html").replace("<!-- title -->", html.escape(content["title"]))
    for name, part in (("style", _part("css")), ("script", _part("js")), ("content", said)):
        before, found, after = page.partition(f"<!-- {name} -->")
        assert found, name
        page = f"{before}{part}{after}"
    return page


def _part(suffix: str) -> str:
    return (resources.files(__package__) / f"game.{suffix}").read_text(encoding="utf-8")
