from __future__ import annotations

from mutants.mutant import Mutant

PATTERN = "leaderboard"
MODULE = "kvlab/leaderboard/board.py"
VALUES = "kvlab/leaderboard/values.py"
SUBMIT = "kvlab/leaderboard/submit.lua"
READ = "kvlab/leaderboard/read.lua"
TESTS = ("tests/leaderboard/test_leaderboard.py",)

MUTANTS = (
    Mutant(
        PATTERN,
        removed="the operation id",
        promise="a submission with an operation id counts once, however often it is sent",
        file=SUBMIT,
        old="  if receipt then",
        new="  if false then",
        tests=TESTS,
        words="op_id",
    ),
    Mutant(
        PATTERN,
        removed="the comparison of what an operation id stood for",
        promise="an operation id of another submission is refused",
        file=SUBMIT,
        old="if first ~= signature then return {'reused', first} end",
        new="",
        tests=TESTS,
        words="op_id",
    ),
    Mutant(
        PATTERN,
        removed="the period from what an operation id stood for",
        promise="an operation id of a submission to another period is refused",
        file=SUBMIT,
        old=" .. ' ' .. ARGV[6]\n",
        new="\n",
        tests=TESTS,
        words="op_id",
    ),
    Mutant(
        PATTERN,
        removed="the TTL of what is kept for an operation id",
        promise="an operation id is remembered for its horizon",
        file=SUBMIT,
        old="redis.call('SET', KEYS[#KEYS], receipt, 'PX', ARGV[10])",
        new="redis.call('SET', KEYS[#KEYS], receipt)",
        tests=TESTS,
        words="horizon or ttl",
    ),
    Mutant(
        PATTERN,
        removed="not sending an addition without an operation id again",
        promise="a lost reply counts once, or the outcome is said to be unknown",
        file=MODULE,
        old='idempotent=op_id is not None or (how != "add" and self._is_fixed(at))',
        new="idempotent=True",
        tests=TESTS,
        words="never_sent_again or lost",
    ),
    Mutant(
        PATTERN,
        removed="one script for rank and neighbours: one command each",
        promise="a player is in the middle of her own context",
        file=MODULE,
        old='        return self._read("around", as_sent(member), n, at, decode)',
        new="""
        def steps() -> Generator[Any, Any, Any]:
            found = yield from self.rank(member, at=at)
            if found is None:
                return None
            first = max(0, found.rank - 1 - n)
            return (yield from self._read("from", first, found.rank + n - first, at, decode))

        from kvlab.core.flow import Flow

        return Flow(steps)""",
        tests=TESTS,
        words="around_holds or round_trip",
    ),
    Mutant(
        PATTERN,
        removed="the place in the order of arrival",
        promise="under first, who reached the score first ranks higher",
        file=SUBMIT,
        old="order == 'desc' and MAX - seq or seq",
        new="0",
        tests=TESTS,
        words="first",
    ),
    Mutant(
        PATTERN,
        removed="the look whether the score changed at all",
        promise="under first, submitting the score that one has keeps the place",
        file=SUBMIT,
        old="if held ~= wanted then",
        new="if true then",
        tests=TESTS,
        words="contract or keeps",
    ),
    Mutant(
        PATTERN,
        removed="the set of distinct scores from the rank",
        promise="under dense no rank is skipped",
        file=SUBMIT,
        old="local counted = ties == 'dense' and second or scores",
        new="local counted = scores",
        tests=TESTS,
        words="contract",
    ),
    Mutant(
        PATTERN,
        removed="the refusal of a score beyond 2^53",
        promise="a score comes back as it was submitted, or is refused",
        file=VALUES,
        old='real("score", score, -MAX_SCORE, MAX_SCORE)',
        new='real("score", score, -1e300)',
        tests=TESTS,
        words="precision",
    ),
    Mutant(
        PATTERN,
        removed="the refusal of a sum that would be rounded",
        promise="a sum is exact, or is refused",
        file=SUBMIT,
        old="if math.abs(wanted) > MAX or (held - (wanted - part)) + (score - part) ~= 0 then",
        new="if part == nil then",
        tests=TESTS,
        words="sums",
    ),
    Mutant(
        PATTERN,
        removed="the server's clock: a caller's, years ahead, in its place",
        promise="a client whose clock is wrong submits to the same period as all",
        file=MODULE,
        old='            Script.load("leaderboard/submit"),',
        new="""            Script(
                "leaderboard/submit",
                Script.load("leaderboard/submit").source.replace(
                    "redis.call('TIME')", f"{{{int(__import__('time').time()) + 10**9}, 0}}"
                ),
            ),""",
        tests=TESTS,
        words="clock",
    ),
    Mutant(
        PATTERN,
        removed="the look which period the keys hold",
        promise="an old period's entries are not taken for today's",
        file=READ,
        old="if redis.call('HGET', KEYS[1], index) ~= string.format('%.0f', period) then",
        new="if false then",
        tests=TESTS,
        words="period or left",
    ),
    Mutant(
        PATTERN,
        removed="a period's TTL",
        promise="a period's keys expire when the last kept period ends",
        file=SUBMIT,
        old="redis.call('PEXPIREAT', scores, expire)",
        new="",
        tests=TESTS,
        words="expire",
    ),
    Mutant(
        PATTERN,
        removed="the difference between 0 entries and all",
        promise="top(0) is nobody",
        file=READ,
        old="if count > 0 or around then",
        new="if true then",
        tests=TESTS,
        words="top_0",
    ),
)
