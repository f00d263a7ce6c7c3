from __future__ import annotations

from mutants.mutant import Mutant

PATTERN = "pipeline"
WIRE = "kvlab/core/wire.py"
CHUNKS = "kvlab/core/executors/chunks.py"
AUTO_BATCH = "kvlab/core/executors/auto_batch.py"
BATCHES = "kvlab/core/transport/batches.py"
COUNT = "kvlab/pipeline/count.lua"
TESTS = ("tests/pipeline/test_pipeline.py",)
AUTO_TESTS = ("tests/core/executors/test_auto_batch.py",)
WIRE_TESTS = ("tests/core/test_wire.py", "tests/core/executors/test_client.py")

MUTANTS = (
    Mutant(
        PATTERN,
        removed="MULTI and EXEC",
        promise="an atomic batch is applied as a whole or not at all",
        file=WIRE,
        old="self._atomic = atomic",
        new="self._atomic = False",
        tests=TESTS,
        words="atomic",
    ),
    Mutant(
        PATTERN,
        removed="the source of a script in MULTI: its digest alone",
        promise="a script that the server forgot does not leave a transaction half applied",
        file=WIRE,
        old="with_source=self._atomic or i in self._unknown_scripts",
        new="with_source=i in self._unknown_scripts",
        tests=WIRE_TESTS,
    ),
    Mutant(
        PATTERN,
        removed="sending again a script that the server forgot",
        promise="SCRIPT FLUSH costs a round trip, not an error",
        file=WIRE,
        old="if isinstance(reply, NoScriptError) and self._may_load(i):",
        new="if False:",
        tests=WIRE_TESTS,
    ),
    Mutant(
        PATTERN,
        removed="sending a cut transaction again as a whole or not at all",
        promise="no part of a transaction runs twice",
        file=WIRE,
        old="if self._atomic and len(again) < len(unanswered):",
        new="if False:",
        tests=WIRE_TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the difference between what may be sent again and what may not",
        promise="an op that is not idempotent is sent once",
        file=WIRE,
        old="return self.ops[i].idempotent",
        new="return True",
        tests=WIRE_TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the difference between unknown and not sent",
        promise="an op that may have run is never said to be unsent",
        file=WIRE,
        old="if i in self._sent and not isinstance(result, OutcomeUnknown):",
        new="if False:",
        tests=WIRE_TESTS,
    ),
    Mutant(
        PATTERN,
        removed="chunking",
        promise="a huge list neither fills the server's buffer nor holds up the others",
        file=CHUNKS,
        old="CHUNK = 500",
        new="CHUNK = 1_000_000",
        tests=TESTS,
        words="chunks",
    ),
    Mutant(
        PATTERN,
        removed="the counter's TTL, set in the step that adds",
        promise="every counter expires",
        file=COUNT,
        old="if left < 0 then",
        new="if false then",
        tests=TESTS,
        words="counters_live",
    ),
    Mutant(
        PATTERN,
        removed="the look whether a counter has a TTL",
        promise="a counter lives from its first addition on, not from its last",
        file=COUNT,
        old="if left < 0 then",
        new="if true then",
        tests=TESTS,
        words="counters_live",
    ),
    Mutant(
        PATTERN,
        removed="the digits of a counter, in place of Lua's number",
        promise="a counter of 64 bits comes back to the digit",
        file=COUNT,
        old="return redis.call('GET', KEYS[1])",
        new="return tonumber(redis.call('GET', KEYS[1]))",
        tests=TESTS,
        words="64_bits_comes",
    ),
    Mutant(
        PATTERN,
        removed="delivery by position",
        promise="each reply of a batch reaches its caller",
        file=BATCHES,
        old="batch.replies[at : at + call.due], at + call.due",
        new="batch.replies[: call.due], at + call.due",
        tests=AUTO_TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the look whether a waiting caller was cancelled",
        promise="what still waited when its caller was cancelled is not sent",
        file=BATCHES,
        old="return not self.answered.done()",
        new="return True",
        tests=AUTO_TESTS,
    ),
    Mutant(
        PATTERN,
        removed="an error of one's own for each caller",
        promise="when a connection fails each caller gets its own error",
        file=BATCHES,
        old="return replies, type(error)(str(error))",
        new="return replies, error",
        tests=AUTO_TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the bound of a batch",
        promise="a batch carries at most max_batch ops",
        file=BATCHES,
        old="if calls and (commands < 0 or size < 0):",
        new="if False:",
        tests=AUTO_TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the wait for the calls under way",
        promise="close() loses no reply",
        file=AUTO_BATCH,
        old="            if self._calls:",
        new="            if False:",
        tests=AUTO_TESTS,
    ),
)
