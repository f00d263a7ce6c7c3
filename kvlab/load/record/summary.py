"""A load run in a dozen lines for a terminal, and sentences that the page uses too.

Guarantee: no line is longer than ``WIDTH``, and no text of the run moves the cursor.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from kvlab.instruments.measure.recorder import PERCENTILES
from kvlab.load.record.parts import Finding
from kvlab.load.record.recovery import recoveries
from kvlab.load.record.run import LoadRun
from kvlab.load.record.words import duration, percent, printable

__all__ = ["WIDTH", "generator_says", "how_measured", "summary"]

WIDTH = 100
_ERRORS, _EVIDENCE, _FAULTS = 5, 5, 8


def summary(run: LoadRun, report: str = "") -> str:
    """Title, rate, errors, latencies by name of call, faults, generator and, last, the verdict.

    ``report``: a line before the verdict.
    """
    lines = [run.title]
    if "engine" in run.machine:
        lines[0] += f", {run.machine['engine']} {run.machine.get('engine_version', '')}".rstrip()
    lines.append(f"  {_volume(run)}")
    for message, count in most(run.errors, _ERRORS):
        lines.append(f"    {count:,} x {message}")
    if len(run.errors) > _ERRORS:
        lines.append(f"    and {len(run.errors) - _ERRORS} other messages")
    lines += _latencies(run)
    faults = recoveries(run)
    lines += [f"  {recovery.says}" for recovery in faults[:_FAULTS]]
    if len(faults) > _FAULTS:
        lines.append(f"  and {len(faults) - _FAULTS} more faults, which the report lists")
    if run.generator is not None:
        lines.append(f"  generator: {generator_says(run)}")
        lines += [f"  {edges}"] if (edges := edges_say(run)) else []
        if run.generator.warning:
            lines.append(f"  WARNING: {run.generator.warning}")
    lines += [f"  {report}"] if report else []
    lines += _verdict(run)
    return "\n".join(short for line in lines for short in _fit(line))


def generator_says(run: LoadRun) -> str:
    """How busy and how late the generator was, and what it can do; empty without a generator."""
    if run.generator is None:
        return ""
    one = run.generator
    processes = f"{one.processes} process{'es' if one.processes > 1 else ''}"
    each = " in each process" if one.processes > 1 else ""
    says = [
        f"{processes}, {percent(one.cpu_share)} of a core{each}",
        f"in the worst interval {percent(one.busiest)}, and timers late by {duration(one.latest)}",
        f"{one.under_way:.2g} calls at once on average",
    ]
    if one.cpu_share:
        most = run.rate / one.processes / one.cpu_share
        says.append(f"by its CPU time of a call at most {most:,.0f} calls/s{each}")
    if one.bare_per_second is not None:
        bare = "one user alone, one call after the other (a bare loop, after the run)"
        says.append(f"{bare}: {one.bare_per_second:,.0f}/s{each}")
    if one.noop_per_second is not None:
        says.append(f"a bare loop of PING, which does nothing: {one.noop_per_second:,.0f}/s{each}")
    return "; ".join(says)


def least_says(run: LoadRun, finding: Finding) -> str:
    """The smallest violation that a run of this length and concurrency could have shown."""
    if run.generator is None:
        return finding.least
    return f"{finding.least}; {run.generator.under_way:.2g} calls at once on average"


def edges_say(run: LoadRun) -> str:
    """How many calls were made before the run, and answered after its end; empty for none."""
    if run.generator is None:
        return ""
    warm, late = run.generator.warm_up, run.generator.drained
    says = [f"{warm:,} calls of the warm-up are judged and are in no figure"] if warm else []
    says += [f"{late:,} calls were answered after the end, and are in the figures"] if late else []
    return "; ".join(says)


def how_measured(run: LoadRun) -> str:
    """The kind of load, and when a latency begins."""
    users = run.settings.get("users")
    if run.open_loop:
        return (
            f"Open loop: {run.settings['rate']:,g} calls a second were due, however long the "
            "answers took. A latency begins at the intended start: the wait for a slow server "
            "counts."
        )
    return (
        f"Closed loop: {'each user' if users is None else f'each of {users} users'} calls again "
        "as soon as its last call is answered. A latency begins with the call. A slow server slows "
        "this load down: the calls that would have come meanwhile are missing from the percentiles."
    )


def most(errors: Mapping[str, int], count: int) -> list[tuple[str, int]]:
    """The ``count`` commonest messages."""
    return sorted(errors.items(), key=lambda item: (-item[1], item[0]))[:count]


def _volume(run: LoadRun) -> str:
    loop = "open loop" if run.open_loop else "closed loop"
    if run.open_loop:
        loop += f" at {run.settings['rate']:,g}/s"
    users = run.settings.get("users")
    loop += f", {users} users" if users is not None else ""
    errors = f"{run.errors_total:,} error{'' if run.errors_total == 1 else 's'}"
    return f"{run.calls:,} calls in {run.seconds:,.1f} s, {run.rate:,.0f}/s, {errors}; {loop}"


def _latencies(run: LoadRun) -> Iterator[str]:
    if not run.calls:
        return
    names = [*(f"p{p:g}" for p in PERCENTILES), "max"]
    head = "  latency from the intended start, µs"
    yield f"{head:42}" + "".join(f"{name:>11}" for name in names)
    for row in run.latency_frame(total=True).to_dict("records"):
        if row["count"]:
            numbers = "".join(f"{row[f'{name}_us']:>11,.0f}" for name in names)
            count = "" if row["name"] in run.stages else f", {row['count']:,} calls"
            yield f"    {printable(row['name'], 24)}{count}".ljust(42) + numbers


def _verdict(run: LoadRun) -> Iterator[str]:
    if run.verdict == "SHOWS NOTHING":
        yield f"  SHOWS NOTHING: {run.untested}"
        return
    for finding in run.findings:
        yield f"  {'HOLDS' if finding.holds else 'BROKEN'}: {finding.says}"
        if finding.holds and finding.least:
            yield f"    would have shown: {least_says(run, finding)}"
        for line in finding.evidence[:_EVIDENCE]:
            yield f"    {line}"
        if len(finding.evidence) > _EVIDENCE:
            yield f"    and {len(finding.evidence) - _EVIDENCE:,} more"
    if run.verdict == "BROKEN" and run.untested:
        yield f"  Beyond what broke, this run shows nothing: {run.untested}"


def _fit(line: str) -> list[str]:
    """Lines of at most ``WIDTH``, broken between clauses if possible, else between words."""
    indent = " " * (len(line) - len(line.lstrip(" ")))
    line = indent + printable(line.lstrip(" "))
    if len(line) <= WIDTH:
        return [line]
    more = indent + "  "
    lines = [indent]
    for clause in line.lstrip(" ").split("; "):
        joined = lines[-1] + ("" if lines[-1].isspace() or not lines[-1] else "; ") + clause
        if len(joined) < WIDTH or lines[-1].strip() == "":
            lines[-1] = joined
        else:
            lines[-1] += ";"
            lines.append(more + clause)
    return [
        short
        for text in lines
        for short in textwrap.wrap(text, WIDTH, subsequent_indent=more, drop_whitespace=True)
    ]
