"""The search behind ``kvlab load NAME --find-rate``: probes by Locust, a line each, a folder."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kvlab.errors import InvalidArgument, KvlabError
from kvlab.instruments.charts.inline import rendered, svg
from kvlab.load.command import record_words, refuse_options_of_others
from kvlab.load.find_rate.chart import curve
from kvlab.load.find_rate.record import Probe, RateSearch, probe_of
from kvlab.load.find_rate.search import LOWEST, search
from kvlab.load.find_rate.slo import Slo
from kvlab.load.options import REPORTS, ExitCode, NoReport, check_reports
from kvlab.load.record.files import reserved_folder
from kvlab.load.record.run import LoadRun
from kvlab.load.record.words import duration

USERS = 50
"""At least: an open loop needs a user for each call that is under way."""
SECONDS = 4
"""For which each rate is loaded, unless --time says otherwise."""
BEGIN = 0.2
"""The first rate, as a share of what a closed loop did."""
NOT_FOR_A_SEARCH = {"--rate", "--web", "--master", "--worker"}
_CODES = {
    "FOUND": ExitCode.HOLDS,
    "NO RATE HOLDS": ExitCode.BROKEN,
    "SHOWS NOTHING": ExitCode.SHOWS_NOTHING,
}


def find(
    name: str,
    slos: tuple[Slo, ...],
    *,
    users: int = USERS,
    seconds: int = SECONDS,
    more: Sequence[str] = (),
) -> RateSearch:
    """Search, printing a line a probe. Each probe loads for ``seconds``."""
    began, clock = time.time(), time.perf_counter()
    users = max(users, USERS)
    closed = record_words(name, seconds, users, more)
    print(f"  a closed loop of {users} users does {closed.rate:,.0f}/s", flush=True)
    runs: list[LoadRun] = [closed]

    def try_rate(rate: float) -> Probe:
        run = record_words(name, seconds, users, [*more, "--rate", f"{rate:.1f}"])
        runs.append(run)
        probe = probe_of(run, rate, slos)
        print(f"  {probe_says(probe)}", flush=True)
        return probe

    lowest = _lowest(slos, seconds, closed.rate)
    probes = tuple(search(try_rate, max(closed.rate * BEGIN, lowest), lowest))
    last = runs[-1]
    return RateSearch(
        pattern=closed.pattern,
        title=closed.title,
        slos=slos,
        began=began,
        seconds=time.perf_counter() - clock,
        most=closed.rate,
        probes=probes,
        settings={"users": users, "seconds a probe": seconds, "options": " ".join(more)},
        machine=dict(last.machine),
    )


def _lowest(slos: tuple[Slo, ...], seconds: int, most: float) -> float:
    """The lowest rate to try: a percentile of fewer calls is another name for the maximum.

    Raises ``InvalidArgument`` when the closed loop's ``most`` is less: then no rate could hold.
    """
    percent = max(slo.percent for slo in slos)
    calls = round(200 / (100 - percent))
    if LOWEST * seconds < calls and 0 < most < calls / seconds:
        raise InvalidArgument(
            f"p{percent:g} needs {calls:,.0f} calls a rate, and a closed loop did {most:,.0f}/s: "
            f"use --time {math.ceil(calls / most)}s or more"
        )
    return max(LOWEST, calls / seconds)


def run(
    name: str,
    slos: tuple[Slo, ...],
    *,
    users: int,
    seconds: int,
    more: Sequence[str],
    reports: str | Path = REPORTS,
) -> int:
    """Search, save the folder, say what came out; an :class:`ExitCode`.

    BROKEN when no rate holds; SHOWS_NOTHING when the generator is to blame for that. Raises
    ``InvalidArgument`` for an option of ``more`` that is wrong, or not for a search.
    """
    refuse_options_of_others(name, more)
    for word in more:
        if (option := word.partition("=")[0]) in NOT_FOR_A_SEARCH:
            raise InvalidArgument(
                f"{option} is not for --find-rate, which sets the rate of each run and makes all "
                "runs on this machine"
            )
    wanted = ", ".join(map(str, slos))
    print(f"{name}: searching the highest rate that holds {wanted}; {seconds} s a rate", flush=True)
    try:
        check_reports(Path(reports))  # before minutes of load
        found = find(name, slos, users=users, seconds=seconds, more=more)
    except InvalidArgument:
        raise
    except NoReport as problem:
        print(f"kvlab: {problem}")
        return ExitCode.REPORT
    except KvlabError as problem:
        print(f"kvlab: {problem}")
        return ExitCode.SERVER
    stamp = time.strftime("%Y-%m-%dT%H-%M-%S-", time.localtime(found.began))
    folder = reserved_folder(Path(reports), f"{stamp}{name}-find-rate")
    found.save(folder)  # first: no fault of a chart may lose minutes of load
    (folder / "report.html").write_text(page(found), encoding="utf-8")
    print("\n".join(told(found)))
    print(f"  report: {folder / 'report.html'}")
    return _CODES[found.verdict]


def probe_says(probe: Probe) -> str:
    """One probe in a line."""
    percentiles = (probe.p50, probe.p99, probe.p999)
    times = "/".join(f"{one * 1e3:,.3g}" for one in percentiles) if probe.calls else "–"
    word = "holds" if probe.holds else f"DOES NOT HOLD: {probe.why}"
    if probe.holds and probe.oracle != "HOLDS":
        word += f" (the oracle {probe.oracle.lower()})"
    return f"{probe.rate:>9,.0f}/s  p50/p99/p99.9 {times} ms  {word}"


def told(found: RateSearch) -> Iterator[str]:
    """The result, and what else an SRE must know."""
    yield f"  {found.says()}"
    if found.knee is not None:
        yield f"  the knee: from {found.knee:,.0f}/s on, p99 is twice its best and more"
    yield f"  {generator_says(found)}"


def generator_says(found: RateSearch) -> str:
    """What the generator itself could do, and whether it set the limit."""
    says = [f"the generator: a closed loop did {found.most:,.0f}/s"]
    if found.bare_per_second is not None:
        rate = f"{found.bare_per_second:,.0f}/s"
        says.append(
            f"one user alone, one call after the other (a bare loop of the same call): {rate}"
        )
    held = [one.late for one in found.probes if one.holds]
    late = duration(max(held or (one.late for one in found.probes)))
    where = "at the rates that held" if held else "at worst"
    says.append(f"p99 of its own timers' lateness {late} {where}")
    text = "; ".join(says)
    if found.by_generator:
        text += (
            ". THE GENERATOR SET THE LIMIT, not the store: its timers were late or its core was "
            "full where the rate did not hold. Use more --processes, or a machine with less work"
        )
    return text


def page(found: RateSearch) -> str:
    """The page of a search."""
    figure = curve(found)
    figure.axes[0].set_title("", loc="left", pad=4)
    return rendered(
        "kvlab.load.find_rate",
        "page.html",
        facts={"Settings": found.settings, "Machine": found.machine},
        filters={"duration": duration},
        found=found,
        chart=svg(figure, "curve", (8.4, 4.6)),
        lines=list(told(found))[1:],
        began=datetime.fromtimestamp(found.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )
