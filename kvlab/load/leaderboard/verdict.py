"""The verdict on a leaderboard: its final scores, and the order of the sampled answers."""

from __future__ import annotations

from kvlab.instruments.judges.linearizability import HistoryVerdict, judge_history
from kvlab.instruments.judges.models import Scores
from kvlab.load.leaderboard.boards import BoardProcess, board_of
from kvlab.load.leaderboard.facts import BoardFacts
from kvlab.load.leaderboard.sampled_histories import CLIENTS
from kvlab.load.record.parts import Finding
from kvlab.load.verdict import Conclusion, rarest


def conclude(process: BoardProcess) -> Conclusion:
    """Judge the scores that the board holds now, and the histories."""
    facts = process.evidence.facts
    verdict = facts.submissions.judge(board_of(process).scores())
    says = (
        f"each score is what its acknowledged submissions come to; wrong: {verdict.wrong:,} of "
        f"{verdict.members:,} members, {verdict.acknowledged:,} submissions, "
        f"{verdict.unknown:,} without an answer"
    )
    least = f"one submission that counts wrongly; {rarest(verdict.acknowledged, 'submissions')}"
    findings = [Finding("scores", verdict.holds, says, verdict.examples, least)]
    untested = None if verdict.acknowledged else "nothing was submitted"
    if process.settings.app_url is not None:
        return Conclusion(findings, untested)
    if not any(facts.histories):
        return Conclusion(
            findings, untested or "no history was sampled: the order of answers was not judged"
        )
    order, decided = _order(facts)
    undecided = None if decided else "no sampled history could be decided"
    return Conclusion([*findings, order], untested or undecided)


def _order(facts: BoardFacts) -> tuple[Finding, int]:
    """The finding, and the number of histories that were decided."""
    verdicts = [judge_history(history, Scores()) for history in facts.histories if history]
    wrong = [verdict for verdict in verdicts if verdict.verdict == "invalid"]
    undecided = sum(verdict.verdict == "unknown" for verdict in verdicts)
    says = (
        "sampled ranks and neighbours fit one order of all calls; histories that do not: "
        f"{len(wrong)} of {len(verdicts)}" + (f", undecided {undecided}" if undecided else "")
    )
    shortest = min(wrong, key=lambda verdict: len(verdict.window), default=None)
    evidence = () if shortest is None else _unexplained(shortest)
    decided = len(verdicts) - undecided
    least = f"one answer that fits no order; {rarest(decided, f'histories of {CLIENTS} clients')}"
    return Finding("linearizable", not wrong, says, evidence, least), decided


def _unexplained(verdict: HistoryVerdict) -> tuple[str, ...]:
    """The part of a history that no order explains, in lines."""
    boards = [
        ", ".join(f"{member} {score:g}" for member, score in sorted(state)) or "nobody"
        for state in verdict.states
    ]
    others = (o for o in verdict.window if o is not verdict.culprit)
    return (
        f"no order explains {verdict.culprit}",
        f"on a board of {' or '.join(boards)}, with",
        *(f"  {operation}" for operation in others),
    )
