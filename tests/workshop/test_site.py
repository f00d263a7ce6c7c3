"""The site: what is in it, that no link is dead, and that no request leaves it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from support import browser

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.workshop import readme
from kvlab.workshop.site.build import write

CHAPTERS = ("00_start_here", "08_feature_flags")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of two chapters; all of them would take five seconds."""
    root = tmp_path_factory.mktemp("root")
    (root / "notebooks").mkdir()
    for name in (*(f"{chapter}.ipynb" for chapter in CHAPTERS), "cover.png"):
        shutil.copy(readme.ROOT / "notebooks" / name, root / "notebooks")
    write(root / "site", root)
    return root / "site"


def test_the_index_names_chapters_findings_times_and_games(site: Path) -> None:
    index = (site / "index.html").read_text(encoding="utf-8")
    finding = readme.finding_of(readme.ROOT / "notebooks" / "08_feature_flags.ipynb")
    for said in ("0. Start here", "About 15 minutes", "8. Feature flags", finding[1:]):
        assert said in index
    assert re.findall(r'href="(games/[^"]+)">([^<]+)<', index) == [
        ("games/08_feature_flags_1.html", "The naive flags"),
        ("games/08_feature_flags_2.html", "The hardened flags"),
    ]


def test_no_link_is_dead(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert [page.relative_to(site).as_posix() for page in pages] == [
        *(f"{chapter}.html" for chapter in CHAPTERS),
        "games/08_feature_flags_1.html",
        "games/08_feature_flags_2.html",
        "index.html",
    ]
    for page in pages:
        text = re.sub(r"srcdoc='[^']*'", "", page.read_text(encoding="utf-8"))
        for link in re.findall(r'\b(?:href|src)="([^"#]+)', text):
            assert link.startswith("data:") or (page.parent / link).is_file(), (page, link)


def test_columns_of_words_are_marked_and_numbers_are_not(site: Path) -> None:
    page = (site / "08_feature_flags.html").read_text(encoding="utf-8")
    words = re.search(r"<td [^>]*data-words[^>]*>two of any kind</td>", page)
    number = re.search(r"<td [^>]*>80,946</td>", page)
    assert words
    assert number
    assert "data-words" not in number[0]


def test_a_game_has_a_way_back(site: Path) -> None:
    page = (site / "games" / "08_feature_flags_1.html").read_text(encoding="utf-8")
    assert '<a href="../08_feature_flags.html">← ' in page


def test_no_request_leaves_the_site(site: Path, tmp_path: Path) -> None:
    if browser.program() is None:
        pytest.skip("no Chromium: on Debian, apt-get install chromium")
    with browser.browsing(tmp_path) as page:
        page.call("Network.enable")
        page.call("Log.enable")
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        page.call("Emulation.setDeviceMetricsOverride", **phone)
        for file in sorted(site.rglob("*.html")):
            page.open(file.as_uri())
            page.value("window.scrollTo(0, document.body.scrollHeight)")
            assert page.value("document.documentElement.scrollWidth") == 390
        assert page.value("document.querySelectorAll('.chapters li').length") == len(CHAPTERS)
        assert page.told("Log.entryAdded") == []
        page.value("fetch('http://127.0.0.1:9/').catch(() => 0)")  # the policy stops it
        page.call("Page.getFrameTree")  # what is told before this answer has been read
        asked = page.told("Network.requestWillBeSent")
        page.open("data:text/html,<img src='http://127.0.0.1:9/'>")  # the control has no policy
        asked_by_control = page.told("Network.requestWillBeSent")[len(asked) :]
    assert _schemes(asked) == {"file", "data"}
    assert _schemes(asked_by_control) == {"data", "http"}


def _schemes(asked: list[dict[str, Any]]) -> set[str]:
    return {one["request"]["url"].split(":")[0] for one in asked}


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InvalidArgument, match="holds other files than a site"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def with_chapter_00(root: Path) -> Path:
    """The folder, with the notebook of one chapter."""
    (root / "notebooks").mkdir()
    for name in ("00_start_here.ipynb", "cover.png"):
        shutil.copy(readme.ROOT / "notebooks" / name, root / "notebooks")
    return root


def test_a_page_that_vanished_is_removed_and_no_other_file(site: Path, tmp_path: Path) -> None:
    """A new site has a chapter less; files that the list names by a path elsewhere stay too."""
    folder = tmp_path / "site"
    shutil.copytree(site, folder)
    (folder / "games" / "mine.html").write_text("mine")
    outside = tmp_path / "outside.html"
    outside.write_text("mine")
    with (folder / ".kvlab-site.txt").open("a") as listed:
        listed.write("\n../outside.html")
    write(folder, with_chapter_00(tmp_path))
    left = sorted(page.relative_to(folder).as_posix() for page in folder.rglob("*.html"))
    assert left == ["00_start_here.html", "games/mine.html", "index.html"]
    assert outside.exists()


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "site").write_text("mine")
    with pytest.raises(InvalidArgument, match="site is a file: name an empty folder"):
        write(tmp_path / "site")
    with pytest.raises(KvlabError):
        write(tmp_path / "site" / "below", with_chapter_00(tmp_path))


def test_a_site_is_written_again(site: Path, tmp_path: Path) -> None:
    """It gets as far as the notebooks, and there are none."""
    for folder in (site, tmp_path / "new"):
        with pytest.raises(KvlabError, match="no executed notebooks"):
            write(folder, tmp_path)
