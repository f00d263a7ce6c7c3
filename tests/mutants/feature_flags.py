from __future__ import annotations

from mutants.mutant import Mutant

PATTERN = "feature_flags"
MODULE = "kvlab/feature_flags/flags.py"
ROLLOUT = "kvlab/feature_flags/rollout.py"
SNAPSHOT = "kvlab/feature_flags/snapshot.py"
WATCHER = "kvlab/feature_flags/watcher.py"
WATCHED = "kvlab/feature_flags/watched.py"
COMMIT = "kvlab/feature_flags/commit.lua"
TESTS = ("tests/feature_flags/test_feature_flags.py",)
EXPLORED = ("tests/feature_flags/test_feature_flags_explored.py",)
WATCHER_TESTS = ("tests/feature_flags/test_flag_watcher.py",)

MUTANTS = (
    Mutant(
        PATTERN,
        removed="one commit for flags that belong together: one each",
        promise="a change of several flags has no half-way",
        file=MODULE,
        old="        return Op(_COMMIT, self.values, self.changes, *pairs, decode=int)",
        new="""
        def steps() -> Any:
            version = 0
            for at in range(0, len(pairs), 2):
                two = pairs[at : at + 2]
                version = yield Op(_COMMIT, self.values, self.changes, *two, decode=int)
            return version

        from kvlab.core.flow import Flow

        return Flow(steps)""",
        tests=EXPLORED,
    ),
    Mutant(
        PATTERN,
        removed="one reading of all flags: one command each",
        promise="a reader sees a whole version",
        file=MODULE,
        old="""        return Op(
            "HGETALL",
            self.values,
            decode=self._snapshot,
            idempotent=True,
            fallback=None if boolean("strict", strict) else lambda _: self.declared,
        )""",
        new="""
        def steps() -> Any:
            reply = []
            for name in (yield Op("HKEYS", self.values)):
                reply += [name, (yield Op("HGET", self.values, name))]
            return self._snapshot(reply)

        from kvlab.core.flow import Flow

        return Flow(steps)""",
        tests=TESTS,
        words="half or whole or round_trip",
    ),
    Mutant(
        PATTERN,
        removed="the new version of a commit",
        promise="no two commits share a version",
        file=COMMIT,
        old="version + 1)",
        new="version)",
        tests=TESTS,
    ),
    Mutant(
        PATTERN,
        removed="the look whether the version is one of ours",
        promise="a version written by somebody else heals",
        file=COMMIT,
        old="if not (version >= 0 and version < 9007199254740991 and version % 1 == 0) then",
        new="if false then",
        tests=TESTS,
        words="heals",
    ),
    Mutant(
        PATTERN,
        removed="the message, sent in the step that commits",
        promise="each commit is told",
        file=COMMIT,
        old="redis.call('PUBLISH', KEYS[2], text)\n",
        new="",
        tests=TESTS,
        words="told",
    ),
    Mutant(
        PATTERN,
        removed="the message before the writes: after them",
        promise="a user who may not publish changes nothing",
        file=COMMIT,
        old="redis.call('PUBLISH', KEYS[2], text)\nredis.call('HSET', KEYS[1], unpack(written))",
        new="redis.call('HSET', KEYS[1], unpack(written))\nredis.call('PUBLISH', KEYS[2], text)",
        tests=TESTS,
        words="may_not_publish",
    ),
    Mutant(
        PATTERN,
        removed="the salt of the hash",
        promise="rollouts of different flags are independent",
        file=ROLLOUT,
        old="return _drawn(name if self.salt is None else self.salt, who) < below",
        new='return _drawn("", who) < below',
        tests=TESTS,
        words="independent",
    ),
    Mutant(
        PATTERN,
        removed="the fixed hash: Python's own in its place",
        promise="every process finds a user in the same bucket",
        file=ROLLOUT,
        old='int.from_bytes(hashlib.sha256(drawn).digest()[:8], "big")',
        new="hash(drawn)",
        tests=TESTS,
        words="hash",
    ),
    Mutant(
        PATTERN,
        removed="the comparison with the percentage: the draw is salted by it",
        promise="a rollout grows without throwing anybody out",
        file=ROLLOUT,
        old="return _drawn(name if self.salt is None else self.salt, who) < below",
        new='return _drawn((self.salt or name) + f"{below}", who) < below',
        tests=TESTS,
        words="rollout or grows",
    ),
    Mutant(
        PATTERN,
        removed="the error for a flag that nobody declared",
        promise="a typing error in a flag's name is heard",
        file=SNAPSHOT,
        old="        if found is None:",
        new="        if found is None:\n            return False\n        if found is None:",
        tests=TESTS,
        words="unknown",
    ),
    Mutant(
        PATTERN,
        removed="the answer without a server",
        promise="when the server is down the declared defaults answer",
        file=MODULE,
        old='fallback=None if boolean("strict", strict) else lambda _: self.declared',
        new="fallback=None",
        tests=TESTS,
        words="server",
    ),
    Mutant(
        PATTERN,
        removed="the last snapshot of a watcher that lost its server",
        promise="when the server goes down the flags as last read answer",
        file=WATCHED,
        old="        self._error = problem",
        new="        self._error = problem\n        self._snapshot = self.flags.declared",
        tests=WATCHER_TESTS,
        words="last_snapshot or changes_nothing",
    ),
    Mutant(
        PATTERN,
        removed="subscribing before reading: it reads first",
        promise="no change falls between reading and subscribing",
        file=WATCHER,
        old="""            pushed = self._subscribed(connection)
            while not here.closing.is_set():""",
        new="""            snapshot = self._kv.run(self.flags.read_all(strict=True))
            pushed = self._subscribed(connection)
            with here.news:
                self._learned(snapshot)
                here.news.notify_all()
            self._await_message(connection)
            while not here.closing.is_set():""",
        tests=WATCHER_TESTS,
        words="no_change_falls",
    ),
    Mutant(
        PATTERN,
        removed="the watcher's resync: ten times rarer",
        promise="a watcher reads every 30 seconds without a word",
        file=WATCHER,
        old="connection.can_read(timeout=self.resync)",
        new="connection.can_read(timeout=10 * self.resync)",
        tests=WATCHER_TESTS,
        words="without_a_word",
    ),
)
