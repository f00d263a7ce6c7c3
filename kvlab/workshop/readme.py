"""The parts of the README that are measured: written from the notebooks, never by hand.

A chapter's cell tagged ``finding`` prints its finding in one line; the README's table takes it
from the executed notebook. A cell tagged ``cover`` shows the chart on the README's first screen.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import nbformat

from kvlab.errors import KvlabError
from kvlab.workshop import round_trips, workbook

ROOT = workbook.released()
CHAPTERS = {
    "01_cache_aside": "Cache-aside",
    "02_write_through": "Write-through",
    "03_rate_limiting": "Rate limiting",
    "04_sessions": "Sessions",
    "05_distributed_lock": "Distributed lock",
    "06_leaderboard": "Leaderboard",
    "07_pipeline": "Pipeline",
    "08_feature_flags": "Feature flags",
    "09_explore_your_own_code": "Your own code",
    "10_load_tests": "Load tests",
    "11_libraries": "What to pick instead",
    "12_cache_lab": "Cache lab",
    "13_rest": "The same over HTTPS",
    "14_beyond_one_server": "Beyond one server",
}
_ROOMS = {
    "explore_your_own_code": "instruments.explorer",
    "load_tests": "load",
    "libraries": "bench",
    "cache_lab": "chapters.cache_lab",
    "beyond_one_server": "chapters.beyond_one_server",
}
"""Where the room is not called as its chapter is."""


def table(root: Path = ROOT) -> str:
    """Pattern → code → notebook → finding, as Markdown; a chapter yet to come is marked."""
    rows = ["| pattern | code | chapter | what its notebook found |", "| --- | --- | --- | --- |"]
    for name, title in CHAPTERS.items():
        room = _ROOMS.get(about := name[3:], about)
        path = root / "notebooks" / f"{name}.ipynb"
        folder = f"kvlab/{room.replace('.', '/')}"
        there = (root / folder).is_dir()
        code = f"[`kvlab.{room}`]({folder})" if there else f"`kvlab.{room}`, to come"
        if path.exists():
            chapter = f"[{name}](notebooks/{name}.ipynb)"
            finding = finding_of(path).replace("|", "\\|")
        else:
            chapter, finding = f"{name}, to come", ""
        rows.append(f"| {title} | {code} | {chapter} | {finding} |")
    return "\n".join(rows)


def round_trips_table() -> str:
    """The round trips of every op as Markdown, counted now."""
    rows = ["| pattern | op | naive | hardened |", "| --- | --- | --- | --- |"]
    counted = round_trips.counted()
    rows += [f"| {' | '.join(map(str, row))} |" for row in counted.itertuples(index=False)]
    return "\n".join(rows)


def update(root: Path = ROOT) -> None:
    """Write the measured parts into ``README.md``, and the cover's chart beside the notebooks."""
    readme = root / "README.md"
    old = readme.read_text(encoding="utf-8")
    new = replaced(old, "findings", table(root))
    new = replaced(new, "round trips", round_trips_table())
    if new != old:
        readme.write_text(new, encoding="utf-8")
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        for cell in _tagged(path, "cover"):
            for output in cell.outputs:
                if png := output.get("data", {}).get("image/png"):
                    (root / "notebooks" / "cover.png").write_bytes(base64.b64decode(png))


def replaced(text: str, name: str, content: str) -> str:
    """``text`` with new content between the comments ``<!-- name -->`` and ``<!-- /name -->``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise KvlabError(f"the text must hold {begin} and {end} once each")
    pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n{content}\n{end}", text)


def finding_of(path: Path) -> str:
    """What the cell tagged ``finding`` of an executed chapter has printed."""
    lines: list[str] = [
        output.text.strip()
        for cell in _tagged(path, "finding")
        for output in cell.outputs
        if output.output_type == "stream"
    ]
    if len(lines) != 1 or "\n" in lines[0]:
        raise KvlabError(f"{path.name} must print one line in one cell tagged 'finding'")
    return lines[0]


def _tagged(path: Path, tag: str) -> list[Any]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if tag in cell.metadata.get("tags", ())]
