"""Makes the pages of the site from the executed notebooks."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from markupsafe import Markup
from pygments.formatters import HtmlFormatter

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.version import __version__
from kvlab.workshop import readme

_INDEX, _GAMES = "index.html", "games"
_LIST = ".kvlab-site.txt"
"""The pages that this command has made, a line each."""
_MARK = '<meta name="generator" content="kvlab site">'
_MINUTES = re.compile(r"^\*(?P<minutes>[^.*]*minutes)", re.MULTILINE)
_FRAME = re.compile(
    r"<iframe title='(?P<title>[^']*)'[^>]* srcdoc='(?P<page>[^']*)'>[^<]*</iframe>"
)
"""What ``Game`` shows in a notebook (kvlab/instruments/explorer/game/page.py)."""
_TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
_WORD = re.compile(r"\b(?!nan\b|NaN\b|None\b)[A-Za-z]{3,}")
_TITLE = re.compile(r"^# (?P<title>.+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Game:
    """A game of a chapter: its title, its page, and the address of the page in the site."""

    title: str
    page: str
    address: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """A chapter. ``finding``: None where the chapter prints none; ``body``: HTML."""

    name: str
    title: str
    minutes: str
    finding: str | None
    body: Markup
    games: tuple[Game, ...]

    @property
    def number(self) -> int:
        return int(self.name[:2])

    @property
    def address(self) -> str:
        return f"{self.name}.html"


def write(folder: Path, root: Path = readme.ROOT) -> list[Path]:
    """Write the site of the notebooks in ``root`` into the folder; the pages, the index first.

    A page of an earlier site that has vanished is removed; other files in the folder stay. Raises
    InvalidArgument for a folder that holds other files than a site, KvlabError when there are no
    notebooks and when the folder cannot be written to.
    """
    _check_folder(folder)
    paths = sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise KvlabError(f"{root} has no executed notebooks")
    pages = _pages([_chapter(path) for path in paths], _cover(root))
    try:
        _lay(folder, pages)
    except OSError as problem:
        raise KvlabError(f"no site can be written to {folder}: {problem.strerror}") from None
    return [folder / address for address in pages]


def _check_folder(folder: Path) -> None:
    index = folder / _INDEX
    try:
        is_site = index.is_file() and _MARK in index.read_text(encoding="utf-8")
        holds_others = folder.exists() and not is_site and any(folder.iterdir())
    except NotADirectoryError:
        raise InvalidArgument(f"{folder} is a file: name an empty folder") from None
    except OSError as problem:
        raise KvlabError(f"{folder} cannot be read: {problem.strerror}") from None
    if holds_others:
        raise InvalidArgument(f"{folder} holds other files than a site: name an empty folder")


def _pages(chapters: list[Chapter], cover: str) -> dict[str, str]:
    """The pages by their address in the site, the index first."""
    made = {_INDEX: _page("index", chapters=chapters, cover=cover)}
    for at, chapter in enumerate(chapters):
        near = {"before": chapters[at - 1] if at else None}
        near["after"] = chapters[at + 1] if at + 1 < len(chapters) else None
        made[chapter.address] = _page("chapter", chapter=chapter, **near)
        made |= {game.address: game.page for game in chapter.games}
    return made


def _lay(folder: Path, pages: Mapping[str, str]) -> None:
    """Write the pages, and remove those of the last time that are none any more."""
    (folder / _GAMES).mkdir(parents=True, exist_ok=True)
    listed = folder / _LIST
    before = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    # An edited list removes no other file: a page lies here, or among the games.
    for address in {*before} - {*pages}:
        if Path(address).parent.as_posix() in (".", _GAMES) and address.endswith(".html"):
            (folder / address).unlink(missing_ok=True)
    listed.write_text("\n".join(pages), encoding="utf-8")
    for address, page in pages.items():
        (folder / address).write_text(page, encoding="utf-8")


def _chapter(path: Path) -> Chapter:
    from nbconvert import HTMLExporter  # takes half a second to import

    notebook = nbformat.read(path, as_version=4)
    head = notebook.cells[0].source
    title, minutes = _TITLE.search(head), _MINUTES.search(head)
    named = title["title"] if title else path.stem
    games = _games(path.stem, named, notebook)
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return Chapter(
        name=path.stem,
        title=named,
        minutes=minutes["minutes"] if minutes else "",
        finding=readme.finding_of(path) if path.stem in readme.CHAPTERS else None,
        body=Markup(_TABLE.sub(_with_columns_of_words, body)),
        games=games,
    )


def _with_columns_of_words(table: re.Match[str]) -> str:
    """The table, each cell of a column marked in which a cell has words.

    Columns are counted from the right: at the left a name may stand for several rows.
    """
    from bs4 import BeautifulSoup  # a fifth of a second to import

    found = BeautifulSoup(table[0], "html.parser")
    rows = [row(["td", "th"])[::-1] for row in found("tr")]
    for column in zip_longest(*rows):
        cells = [cell for cell in column if cell is not None]
        if any(cell.name == "td" and _WORD.search(cell.text) for cell in cells):
            for cell in cells:
                cell["data-words"] = ""
    return str(found)


def _games(name: str, chapter: str, notebook: Any) -> tuple[Game, ...]:
    """The games of a notebook. After its frame, each gets a link to a page of its own.

    That page has a link back to the ``chapter``.
    """
    found: list[Game] = []
    back = f'<p><a href="../{name}.html">← {html.escape(chapter)}</a></p>'

    def linked(frame: re.Match[str]) -> str:
        address = f"{_GAMES}/{name}_{len(found) + 1}.html"
        page = html.unescape(frame["page"]).replace("<body>", f"<body>\n{back}", 1)
        found.append(Game(html.unescape(frame["title"]), page, address))
        return f'{frame[0]}\n<p><a href="{address}">This game on a page of its own</a></p>'

    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = _FRAME.sub(linked, output.data["text/html"])
    return tuple(found)


def _cover(root: Path) -> str:
    """The cover as a data URL."""
    picture = (root / "notebooks" / "cover.png").read_bytes()
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _page(name: str, **given: Any) -> str:
    styles = {"light": HtmlFormatter(style="default"), "dark": HtmlFormatter(style="github-dark")}
    given |= {theme: Markup(one.get_style_defs(".highlight")) for theme, one in styles.items()}
    given |= {"mark": Markup(_MARK), "style": Markup(_file("site.css")), "version": __version__}
    return _environment().get_template(f"{name}.html.j2").render(given)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )


def _file(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
