from __future__ import annotations

from mutants.mutant import Mutant

PATTERN = "core"
POOL = "kvlab/core/pool.py"
HEALTH = "kvlab/core/health.py"
EXECUTOR = "kvlab/core/executor.py"
WIRE = "kvlab/core/wire.py"
CONNECTIONS = "kvlab/core/connections.py"
AUTO_BATCH = "kvlab/core/auto_batch.py"
RECOVERY = ("tests/core/test_connection_recovery.py",)
WIRE_TESTS = ("tests/core/test_wire.py",)


def mutant(
    removed: str,
    promise: str,
    file: str,
    old: str,
    new: str,
    words: str,
    tests: tuple[str, ...] = RECOVERY,
) -> Mutant:
    return Mutant(PATTERN, removed, promise, file, old, new, tests, words)


MUTANTS = (
    mutant(
        "the turn's way back after a failed connect",
        "failed connects do not empty the pool",
        POOL,
        "            self._turns.put(turn)\n            raise",
        "            raise",
        "take_no_turn",
    ),
    mutant(
        "the turn's way back when an interrupt has lost it",
        "an interrupt takes no place of the pool",
        POOL,
        "turns.put(_Turn(turns))",
        "pass",
        "at_any_line",
    ),
    mutant(
        "closing the idle siblings of a dead connection",
        "of twelve connections that were cut off one call fails, not twelve",
        POOL,
        "idle, self._idle = self._idle, []",
        "idle: list[Any] = []",
        "cut_off",
    ),
    mutant(
        "closing the siblings in use when they come back",
        "what one connection learns all learn",
        POOL,
        "        self._generation += 1\n        idle, self",
        "        idle, self",
        "demoted_primary_fail",
    ),
    mutant(
        "asking the server after a silence",
        "a frozen server costs once",
        POOL,
        "if self.health.outage is None or not self.health.outage.pause:",
        "if False:",
        "costs_once",
    ),
    mutant(
        "keeping the connection that was silent",
        "a late answer ends the outage",
        POOL,
        "return connection is self.health.witness",
        "return False",
        "costs_once",
    ),
    mutant(
        "the PING before the ops of a try",
        "a silent server gets no op to run later",
        POOL,
        "            if trying:\n                yield from self._ping",
        "            if False:\n                yield from self._ping",
        "run_later",
    ),
    mutant(
        "a PING at the very end of health_check_interval",
        "a connection that was idle for the interval is asked before it is used",
        POOL,
        "connection.used < self._check:",
        "connection.used <= self._check:",
        "idle_for_long",
    ),
    mutant(
        "the turns to try the server",
        "one call at a time tries a silent server",
        HEALTH,
        "if number >= 0 and self._tries.setdefault(number, me := object()) is me:",
        "if number >= 0:",
        "one_call_tries",
    ),
    mutant(
        "the try after one that was interrupted",
        "an outage never lasts because a try was interrupted",
        HEALTH,
        "(now - outage.next_try) // outage.pause)",
        "0 if now >= outage.next_try else -1)",
        "interrupted_is_followed",
    ),
    mutant(
        "the look how long a failure took",
        "a refused connection keeps no call from trying",
        HEALTH,
        "if took >= self.quick and now",
        "if now",
        "refused_quickly",
    ),
    mutant(
        "the limit of a pause",
        "a silent server is tried every few seconds",
        HEALTH,
        "min(PAUSES * took, LONGEST_PAUSE)",
        "PAUSES * took",
        "pauses_have_a_limit",
    ),
    mutant(
        "the belief in a refusal on a new connection",
        "a server that refuses for long costs few connections",
        HEALTH,
        "self._believed_until = self.clock() + BELIEVED",
        "pass",
        "believed_for_a_while",
    ),
    mutant(
        "the retry of what a demoted primary refused",
        "a demotion behind one name fails no call",
        EXECUTOR,
        "if exchange.condemned and self._health.moved(exchange):",
        "if False:",
        "demoted_primary_fail",
    ),
    mutant(
        "the retry of what could not be sent",
        "behind a Sentinel a failover is waited for",
        EXECUTOR,
        "exchange.absorb(replies, error, self._health.moves)",
        "exchange.absorb(replies, error)",
        "failover",
    ),
    mutant(
        "the deadline from the begin of the outage",
        "an outage that lasts is not waited for by each call",
        EXECUTOR,
        "began = min(began, outage.since)",
        "pass",
        "failover",
    ),
    mutant(
        "the end of retries at the deadline itself",
        "no retry begins at the deadline or after",
        EXECUTOR,
        "now - began + PAUSE < self.settings.deadline",
        "now - began + PAUSE <= self.settings.deadline",
        "after_the_deadline",
        WIRE_TESTS,
    ),
    mutant(
        "redis-py's plain reading of replies behind a Sentinel",
        "READONLY is a refusal, not an unknown outcome",
        CONNECTIONS,
        "if is_sentinel(pool):",
        "if False:",
        "sentinel_demoted",
    ),
    mutant(
        "the look whether MULTI was refused",
        "an op that ran by itself does not run again",
        WIRE,
        "if self._atomic and any(isinstance(r, OutcomeUnknown) for r in self.results):",
        "if False:",
        "once_and_whole",
        WIRE_TESTS,
    ),
    mutant(
        "half of the deadline of a waiting call",
        "a call waits no longer than deadline in the queue of an AutoBatch",
        AUTO_BATCH,
        "self.clock() - self.settings.deadline",
        "self.clock() - 2 * self.settings.deadline",
        "not_longer",
        ("tests/core/test_auto_batch.py",),
    ),
    mutant(
        "a new connection for a batch that was refused",
        "a demotion behind one name fails no call of a batch",
        AUTO_BATCH,
        "if any(call.elsewhere for call in again):",
        "if False:",
        "demoted_primary_fail and batches",
    ),
)
