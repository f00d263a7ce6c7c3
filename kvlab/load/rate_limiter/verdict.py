"""The verdict on a rate limiter: admissions too many, and denials without reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvlab.instruments.judges.admissions import AdmissionVerdict, certain_overlap, judge
from kvlab.instruments.judges.denials import DenialVerdict, judge_denials
from kvlab.instruments.judges.server_clock import ServerClock, server_clock
from kvlab.load.process import Process
from kvlab.load.rate_limiter.decisions import Decisions, Times
from kvlab.load.rate_limiter.settings import LimiterSettings
from kvlab.load.record.parts import Finding
from kvlab.load.verdict import Conclusion, rarest

_SHOWN = 5
"""The calls of a key that a line names."""


def conclude(process: Process[LimiterSettings, Decisions], began: float) -> Conclusion:
    """Judge every decision against the bound of its algorithm."""
    settings, decisions = process.settings, process.evidence.facts
    findings = [] if settings.naive else _findings(decisions, settings, began)
    if settings.naive or settings.control:
        findings.append(_naive_finding(decisions, settings, began))
    if decisions.keys:
        findings.insert(0, _server_times(decisions, began, server_clock(process.kv.client)))
    untested = None
    if not decisions.denied:
        untested = "no request was denied; use fewer keys, a lower limit or more users"
    windows = decisions.windows(began, settings.window, settings.bounds, settings.naive_bounds)
    return Conclusion(findings, untested, windows)


def _findings(decisions: Decisions, settings: LimiterSettings, began: float) -> list[Finding]:
    bound: dict[str, Any] = {"limit": settings.limit, "window": settings.window}
    over = {
        key: judge(settings.algorithm, decisions.admissions(key), **bound) for key in decisions.keys
    }
    under = {
        key: judge_denials(
            settings.algorithm,
            decisions.admissions(key),
            decisions.denials(key),
            unknown=decisions.unknown_spans(key),
            **bound,
        )
        for key in decisions.keys
    }
    if not over:
        return []
    calls = Offenders(decisions, settings.window, began)
    return [_over(over, calls.admitted), _under(under, calls)]


@dataclass(frozen=True, slots=True)
class Offenders:
    """The first calls of each key that broke a promise, in words: when, who, what was answered."""

    decisions: Decisions
    window: float
    began: float

    def admitted(self, key: str, verdict: AdmissionVerdict) -> str:
        """``moment``: of the first admission too many."""
        times = self.decisions.admissions(key)
        assert verdict.moment is not None
        # The judge counts in whole microseconds.
        inside = times[
            (times > verdict.moment - self.window + 5e-7) & (times < verdict.moment + 5e-7)
        ]
        return self._line(key, inside, "answered allowed", verdict.bound)

    def overlapping(self, key: str, verdict: AdmissionVerdict) -> str:
        """``moment``: when the interval begins that holds too many whole calls."""
        spans = self.decisions.untimed_spans(key)
        assert verdict.moment is not None
        inside = (spans[:, 0] >= verdict.moment) & (spans[:, 1] < verdict.moment + self.window)
        ends = np.sort(spans[inside, 1])
        return self._line(key, ends, "answered allowed", verdict.bound)

    def denied(self, key: str, verdict: DenialVerdict) -> str:
        assert verdict.moment is not None
        promised = f"{verdict.used:g} of {verdict.limit:g} were used, so one more is allowed"
        return self._line(key, np.array([verdict.moment]), "answered denied", promised)

    def _line(self, key: str, times: Times, answered: str, promised: str) -> str:
        shown = ", ".join(f"{at - self.began:.6f}" for at in times[-_SHOWN:])
        calls = f"the last of {len(times)} calls" if len(times) > _SHOWN else "calls"
        return (
            f"{key}: {calls if len(times) > 1 else 'call'} at {shown} s {answered}; "
            f"promised: {promised}"
        )


def _over(
    verdicts: Mapping[str, AdmissionVerdict], in_words: Callable[[str, AdmissionVerdict], str]
) -> Finding:
    each = [*verdicts.values()]
    verdict = sum(each[1:], each[0])
    says = (
        f"{verdict.bound}; the most seen is {verdict.worst:g}, the bound {verdict.limit:g}, "
        f"admissions too many: {verdict.over:,} of {verdict.admitted:,}"
    )
    evidence = tuple(in_words(key, one) for key, one in verdicts.items() if not one.holds)
    least = f"one admission too many in a window; {rarest(verdict.admitted, 'admissions')}"
    return Finding("over-admission", verdict.holds, says, evidence, least)


def _under(verdicts: Mapping[str, DenialVerdict], calls: Offenders) -> Finding:
    each = [*verdicts.values()]
    verdict = sum(each[1:], each[0])
    says = (
        "nobody is denied who is within the limit; denials without reason: "
        f"{verdict.unjustified:,} of {verdict.denied:,}"
        + (f", {verdict.unknown:,} answers unknown" if verdict.unknown else "")
    )
    evidence = tuple(calls.denied(key, one) for key, one in verdicts.items() if not one.holds)
    least = f"one denial without reason; {rarest(verdict.denied, 'denials')}"
    return Finding("denials", verdict.holds, says, evidence, least)


def _server_times(decisions: Decisions, began: float, clock: ServerClock) -> Finding:
    """Whether each server time, which the other findings rely on, lies inside its own call."""
    outside, total, lines, within = 0, 0, [], f"{clock.tolerance * 1e3:.1f} ms"
    for key in decisions.keys:
        rows = decisions.timed(key)
        wrong = clock.outside(rows)
        total, outside = total + len(rows), outside + int(wrong.sum())
        if wrong.any():
            said, start, end = rows[wrong][0] - (began + clock.ahead, began, began)
            lines.append(
                f"{key}: {wrong.sum():,} calls; the first, from {start:.6f} to {end:.6f} s, says "
                f"that it was decided at {said:.6f} s"
            )
    says = (
        f"each server time lies inside its call, ± {within}; outside: {outside:,} of {total:,} "
        f"(the server's clock is {clock.ahead * 1e3:.1f} ms ahead of the caller's)"
    )
    least = f"a server time {within} outside its call; {rarest(total, 'calls')}"
    return Finding("server times", not outside, says, tuple(lines), least)


def _naive_finding(decisions: Decisions, settings: LimiterSettings, began: float) -> Finding:
    verdicts = {
        key: certain_overlap(
            decisions.untimed_spans(key), limit=settings.limit, window=settings.window
        )
        for key in decisions.untimed_keys
    }
    if not verdicts:
        return Finding("naive", False, "the naive sliding window admitted nothing")
    calls = Offenders(decisions, settings.window, began)
    finding = _over(verdicts, calls.overlapping)
    if settings.naive:
        return finding
    each = [*verdicts.values()]
    verdict = sum(each[1:], each[0])
    return Finding(
        "control",
        not verdict.holds,
        f"the naive sliding window, beside it, is caught: {verdict.over:,} admissions too many "
        f"beyond doubt, of {verdict.admitted:,}",
    )
