"""A run of ``kvlab bench`` as one HTML page: what came out first, then charts, rows and facts.

Guarantee: the page needs no script and no network, and escapes every text of the run.
"""

from __future__ import annotations

from datetime import UTC, datetime

from kvlab.bench.charts import ratios, standing
from kvlab.bench.run import CONTROL, BenchRun, Row
from kvlab.bench.verdict import EQUAL, QUICKER, SLOWER, UNKNOWN, Verdict, Verdicts
from kvlab.instruments.charts.inline import rendered, svg
from kvlab.instruments.measure.comparison import digits
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
        picks=[_pick(run, name) for name in _compared(run)],
        sections=[_section(run, name) for name in benchmarks],
        verdicts=verdicts,
        told=_by_word(verdicts) if verdicts else {},
        open=(SLOWER, QUICKER),
    )


def _title(run: BenchRun) -> str:
    if rows := [row for row in run.rows if row.of_package]:
        return f"kvlab beside packages that people install: {standing(run, rows)}"
    rows = [row for row in run.rows if row.benchmark != CONTROL and row.subject == "kvlab"]
    return f"kvlab: {standing(run, rows)}" if rows else "The same code twice"


def _compared(run: BenchRun) -> list[str]:
    """The benchmarks with a package that people install in place of kvlab."""
    return list(dict.fromkeys(row.benchmark for row in run.rows if row.of_package))


def _pick(run: BenchRun, benchmark: str) -> dict[str, object]:
    """By what came out, the packages: as in "dogpile.cache 1.5.0: hit 0.92; miss 0.51"."""
    found: dict[str, dict[str, list[str]]] = {"quicker": {}, "none": {}, "slower": {}}
    for row in run.rows:
        if row.of_package and row.benchmark == benchmark:
            ratio = row.compared.ratio
            word = "none" if not run.differs(row) else "quicker" if ratio < 1 else "slower"
            peer = f"{row.peer} {row.version}"
            says = "too noisy to tell" if row.compared.too_noisy else digits(ratio)
            found[word].setdefault(peer, []).append(f"{row.case} {says}")
    said = {
        word: [f"{peer}: {'; '.join(cases)}" for peer, cases in peers.items()]
        for word, peers in found.items()
    }
    return {"pattern": benchmark.replace("_", " "), **said}


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
