"""benchmarks/README.md has the table of the kept run, and each target that was missed says why."""

from __future__ import annotations

import json

from benchmarks.studies.speed_targets import RESULTS, ROOT, TARGETS, is_missed, table


def test_the_page_has_the_table_of_the_kept_run() -> None:
    kept = json.loads((RESULTS / "speed.json").read_text(encoding="utf-8"))
    boards = (RESULTS / "board_size.txt").read_text(encoding="utf-8")
    assert table(kept, boards) in (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    rows = {(row["benchmark"], row["case"], row["peer"]): row for row in kept["rows"]}
    assert [*rows] == [*TARGETS], "a row was not measured"
    missed = [key for key, row in rows.items() if is_missed(row)]
    assert [key for key in missed if not TARGETS[key].why] == []
