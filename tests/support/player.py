"""Plays every end of a game by clicks, in a real browser.

``PYTHONPATH=tests python -m support.player notebooks/0[1-8]_*.ipynb`` plays the games of chapters
(or of saved pages), and prints for each: the ends that were reached by clicks, how many broke, the
least moves of one that broke, and what the page says of itself. Exit code 1 when they differ.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from support import browser

_PLAY = """
(() => {
  const found = [], path = [];
  const at = (id) => document.getElementById(id);
  const buttons = () => Array.from(document.querySelectorAll("#moves button"));
  (function go() {
    if (document.body.dataset.end) {
      const moves = document.querySelectorAll("#timeline .number:not(:empty)").length;
      found.push([path.join(" "), document.body.dataset.end, moves, at("end").innerText]);
      return;
    }
    for (const token of buttons().map((one) => one.dataset.token)) {
      path.push(token);
      buttons().find((one) => one.dataset.token === token).click();
      go();
      at("undo").click();
      path.pop();
    }
  })();
  return found;
})()
"""


class Played(NamedTuple):
    """One end. ``path``: the tokens of the clicks; ``words``: what the page says at the end."""

    path: str
    verdict: str
    moves: int
    words: str


def played(page: browser.Page) -> list[Played]:
    """Every end that can be clicked in the game that the page shows."""
    return [Played(*one) for one in page.value(_PLAY)]


def agrees(page: browser.Page, ends: Sequence[Played]) -> bool:
    """Whether these ends are what the page says of itself."""
    broken = [one.moves for one in ends if one.verdict == "broken"]
    said = page.value("[root.ends, root.broken, content.more, root.least]")
    return bool(said == [len(ends), len(broken), 0, min(broken, default=None)])


def games(path: Path) -> Iterator[tuple[str, str]]:
    """The title and the page of each game in a notebook, or of a saved page."""
    if path.suffix == ".html":
        yield path.stem, path.read_text(encoding="utf-8")
        return
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", ()):
            reader = _Frames()
            reader.feed(output.get("data", {}).get("text/html", ""))
            yield from reader.found


class _Frames(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: dict[str, Any] = dict(attrs)
        if tag == "iframe" and "srcdoc" in given:
            self.found.append((given["title"], given["srcdoc"]))


def main(names: list[str]) -> int:
    wrong = 0
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        browser.browsing(Path(folder)) as page,
    ):
        for name in names:
            for title, game in games(Path(name)):
                file = Path(folder) / "game.html"
                file.write_text(game, encoding="utf-8")
                page.open(file.as_uri())
                ends = played(page)
                broken = [one.moves for one in ends if one.verdict == "broken"]
                same = agrees(page, ends)
                wrong += not same
                print(
                    f"{Path(name).stem}, {title}: {len(ends)} ends by clicks, {len(broken)} "
                    f"broken, least moves {min(broken, default='-')}; page: "
                    f"{page.value('content.summary')}; "
                    f"{len(game):,} bytes{'' if same else '  DIFFERS'}"
                )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
