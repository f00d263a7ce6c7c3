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


@dataclass(frozen=True)
class Game:
    """A game to play. As the last value of a notebook cell it shows itself.

    * ``ends``: how many ends can be reached in it; ``broken``: how many of them break the promise.
    * ``complete``: it has every end of the exploration.
    * ``par``: the fewest steps in which the promise breaks; None where it cannot be broken.
    * ``html``: the page, which loads nothing else.
    """

    title: str
    ends: int
    broken: int
    complete: bool
    par: int | None
    html: str

    @property
    def summary(self) -> str:
        """One line."""
        some = "" if self.complete else ", and there are more"
        if self.par is None:
            return f"{self.ends:,} of {self.ends:,} ends hold{some}: you cannot win"
        are = "is" if self.broken == 1 else "are"
        return f"{self.broken:,} of {self.ends:,} ends {are} broken{some}; par is {self.par}"

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
    *,
    schedule: str | None,
    counted: tuple[int, int] | None,
    title: str = TITLE,
    ends: int = MOST_ENDS,
) -> Game:
    """Explore once more, and make a game of it with so many ends at most.

    ``schedule``: the shortest broken run, which the game always has; ``counted``: the runs and the
    broken runs of the exploration before, if it made all. Raises Nondeterministic when they are
    others now.
    """
    text("title", title)
    tree = tree_of(settings, ends=whole("ends", ends, 1), schedule=schedule)
    complete, broken = not tree.unexplored, tree.ended("broken")
    if complete and counted is not None and counted != (tree.ends, broken):
        raise Nondeterministic(
            f"{counted[1]} of {counted[0]} schedules were broken when this was explored, and "
            f"{broken} of {tree.ends} are now; {ADVICE}"
        )
    promise = "" if settings.invariant is None else words_of(settings.invariant)
    content = {"title": title, **content_of(tree, settings, promise)}
    return Game(title, tree.ends, broken, complete, par_of(content), page_of(content))


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
