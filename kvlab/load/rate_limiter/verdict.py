"""The verdict on a rate limiter: admissions too many, and denials without reason."""

from __future__ import annotations

from typing import Any

from kvlab.instruments.judges.admissions import AdmissionVerdict, certain_overlap, judge
from kvlab.instruments.judges.denials import DenialVerdict, judge_denials
from kvlab.load.process import Process
from kvlab.load.rate_limiter.decisions import Decisions
from kvlab.load.rate_limiter.settings import LimiterSettings
from kvlab.load.record.parts import Finding
from kvlab.load.verdict import Conclusion


def conclude(process: Process[LimiterSettings, Decisions], began: float) -> Conclusion:
    """Judge every decision against the bound of its algorithm."""
    settings, decisions = process.settings, process.evidence.facts
    findings = [] if settings.naive else _findings(decisions, settings)
    if settings.naive or settings.control:
        findings.append(_naive_finding(decisions, settings))
    denied = sum(len(decisions.denials(key)) for key in decisions.keys)
    if settings.naive:
        answered = process.evidence.calls - sum(process.evidence.errors.values())
        denied = answered - decisions.untimed
    untested = None
    if not denied:
        untested = "no request was denied; use fewer keys, a lower limit or more users"
    windows = decisions.windows(began, settings.window, settings.limit)
    return Conclusion(findings, untested, windows)


def _findings(decisions: Decisions, settings: LimiterSettings) -> list[Finding]:
    bound: dict[str, Any] = {"limit": settings.limit, "window": settings.window}
    over = [judge(settings.algorithm, decisions.admissions(key), **bound) for key in decisions.keys]
    under = [
        judge_denials(
            settings.algorithm,
            decisions.admissions(key),
            decisions.denials(key),
            unknown=decisions.unknown_spans(key),
            **bound,
        )
        for key in decisions.keys
    ]
    return [_over(sum(over[1:], over[0])), _under(sum(under[1:], under[0]))] if over else []


def _over(verdict: AdmissionVerdict) -> Finding:
    says = (
        f"{verdict.bound}; the most seen is {verdict.worst:g}, the bound {verdict.limit:g}, "
        f"admissions too many: {verdict.over:,} of {verdict.admitted:,}"
    )
    return Finding("over-admission", verdict.holds, says)


def _under(verdict: DenialVerdict) -> Finding:
    says = (
        "nobody is denied who is within the limit; denials without reason: "
        f"{verdict.unjustified:,} of {verdict.denied:,}"
        + (f", {verdict.unknown:,} answers unknown" if verdict.unknown else "")
    )
    evidence = () if verdict.holds else (str(verdict),)
    return Finding("denials", verdict.holds, says, evidence)


def _naive_finding(decisions: Decisions, settings: LimiterSettings) -> Finding:
    verdicts = [
        certain_overlap(decisions.untimed_spans(key), limit=settings.limit, window=settings.window)
        for key in decisions.untimed_keys
    ]
    if not verdicts:
        return Finding("naive", False, "the naive sliding window admitted nothing")
    verdict = sum(verdicts[1:], verdicts[0])
    if settings.naive:
        return _over(verdict)
    return Finding(
        "control",
        not verdict.holds,
        f"the naive sliding window, beside it, is caught: {verdict.over:,} admissions too many "
        f"beyond doubt, of {verdict.admitted:,}",
    )
