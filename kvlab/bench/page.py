"""A run of ``kvlab bench`` as one HTML page: what came out first, then charts, rows and facts.

Guarantee: the page needs no script and no network, and escapes every text of the run.
"""

from __future__ import annotations

from datetime import UTC, datetime

from kvlab.bench.charts import ratios, standing
from kvlab.bench.run import CONTROL, BenchRun, Row
from kvlab.bench.verdict import EQUAL, QUICKER, SLOWER, UNKNOWN, Verdict, Verdicts
from kvlab.instruments.charts.inline import rendered, svg
from kvlab.load.record.words import duration


def page(run: BenchRun, verdicts: Verdicts | None = None) -> str:
    """The page of a run; with ``verdicts``, what became of each row since an older run."""
    benchmarks = list(dict.fromkeys(row.benchmark for row in run.rows))
    benchmarks.sort(key=lambda name: name == CONTROL)
    return rendered(
        "kvlab.bench",
        "page.html",
        facts={"Settings": _settings(run), "Machine and versions": run.environment},
        filters={"duration": duration},
        run=run,
        began=datetime.fromtimestamp(run.began, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        title=_title(run),
        sections=[_section(run, name) for name in benchmarks],
        verdicts=verdicts,
        told=_by_word(verdicts) if verdicts else {},
        open=(SLOWER, QUICKER),
    )


def _title(run: BenchRun) -> str:
    rows = [row for row in run.rows if row.benchmark != CONTROL and row.subject == "kvlab"]
    return f"kvlab: {standing(run, rows)}" if rows else "The same code twice"


def _section(run: BenchRun, name: str) -> dict[str, object]:
    figure = ratios(run, name)
    title = figure.axes[0].get_title(loc="left")
    figure.axes[0].set_title("", loc="left", pad=4)
    width, height = figure.get_size_inches()
    rows = [row for row in run.rows if row.benchmark == name]
    return {
        "title": title,
        "svg": svg(figure, name, (float(width), float(height) - 0.3)),
        "rows": [_told(run, row) for row in rows],
    }


def _told(run: BenchRun, row: Row) -> dict[str, object]:
    ours, peer = row.medians
    tone = "" if not run.differs(row) else "holds" if row.compared.ratio < 1 else "broken"
    return {"row": row, "says": run.says(row), "ours": ours, "peer": peer, "tone": tone}


def _by_word(verdicts: Verdicts) -> dict[str, list[Verdict]]:
    """Every verdict, what changed first."""
    found = {word: verdicts.having(word) for word in (SLOWER, QUICKER, UNKNOWN, EQUAL)}
    return {word: rows for word, rows in found.items() if rows}


def _settings(run: BenchRun) -> dict[str, object]:
    rounds = run.settings.get("rounds", [])
    return {
        "length": "short" if run.settings.get("short") else "full",
        "rounds": f"{len(rounds)}, each in a process of its own",
        "turns a round": ", ".join(dict.fromkeys(str(one["turns"]) for one in rounds)),
        "seeds": ", ".join(str(one["seed"]) for one in rounds),
        "load": run.settings.get("load", ""),
        "warm-up": run.settings.get("warm_up", ""),
    }
