from __future__ import annotations

from mutants.mutant import Mutant

PATTERN = "explorer"
LOG = "kvlab/instruments/explorer/server_state/write_log.py"
TESTS = ("tests/instruments/explorer/server_state/test_write_log.py",)
FAILOVERS = ("tests/instruments/explorer/test_failovers.py",)

MUTANTS = (
    Mutant(
        PATTERN,
        "what was written before the run",
        "a run's log has the writes of that run alone",
        LOG,
        "        self._new()\n        self._writes.clear()\n",
        "        self._writes.clear()\n",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the condition that a key has a TTL",
        "a TTL that ended on the primary ends no key of a replica that lacks the TTL",
        LOG,
        ">= 0 then redis.call('UNLINK'",
        ">= -9 then redis.call('UNLINK'",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the keys whose TTL stays",
        "time brings every TTL nearer but those that are kept",
        LOG,
        "if ends >= 0 and not kept[key] then",
        "if ends >= 0 then",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the first of the keys whose TTL stays",
        "time brings every TTL nearer but those that are kept",
        LOG,
        "for at = 2, #ARGV do",
        "for at = 3, #ARGV do",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "what no client wrote",
        "a failover loses writes of clients alone",
        LOG,
        "if count and write.by is not None:",
        "if count:",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the order of the writes",
        "a replica has a prefix of what the primary did",
        LOG,
        "        self._writes = kept[::-1]\n",
        "        self._writes = kept\n",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the writes that put the server there",
        "they are no writes of the run",
        LOG,
        "        again.execute()\n        self._new()\n",
        "        again.execute()\n",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the end of a MULTI",
        "what comes after a transaction is a write of its own",
        LOG,
        '            in_multi = in_multi and name != b"EXEC"\n',
        "",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the condition that the connection wrote it",
        "a WAIT confirms what this connection wrote, and what came before",
        LOG,
        "if write.by == by), default=-1)",
        "), default=-1)",
        FAILOVERS,
    ),
    Mutant(
        PATTERN,
        "the confirmed write itself",
        "what WAIT has confirmed is not lost",
        LOG,
        "self._writes[: last + 1]]\n",
        "self._writes[:last]]\n",
        FAILOVERS,
    ),
)
