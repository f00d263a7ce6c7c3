from __future__ import annotations

from mutants.mutant import Mutant

PATTERN = "cluster"
ROUTED = "kvlab/core/executors/routed.py"
CLUSTER = "kvlab/core/executors/cluster.py"
WIRE = "kvlab/core/wire.py"
CONNECT = "kvlab/core/executors/connect.py"
LOCK = "kvlab/distributed_lock/lock.py"
MEMBERS = "kvlab/core/transport/members.py"
TESTS = ("tests/core/executors/test_cluster_refusals.py",)
WAKEUPS = ("tests/core/executors/test_cluster_wakeups.py",)
MEMBERS_TESTS = ("tests/core/transport/test_members.py",)

MUTANTS = (
    Mutant(
        PATTERN,
        "LOADING among what a node says that does not serve now",
        "another node may serve what a node that loads refuses",
        ROUTED,
        '"LOADING", ',
        "",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "asking the doubtful nodes last",
        "a node that refuses its slots is not the one that is asked for them",
        CLUSTER,
        "lambda one: (one in silent, one in self.suspects)",
        "lambda one: one in silent",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the look whether a node knows any slot",
        "a node that has forgotten the cluster is not believed",
        ROUTED,
        "elif replies[0]:",
        "else:",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the end of a circle of MOVED",
        "a circle of MOVED ends with an error",
        ROUTED,
        "if times > FOLLOWED:",
        "if times > 100:",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "growing pauses",
        "an op waits for a node without a try every 0.02 s",
        ROUTED,
        "pause, self._pause = self._pause, next(self._pauses)",
        "pause = self._pause",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the age of an outage",
        "a dead node is waited for once, and not by each call",
        ROUTED,
        "self.is_late(None if outage is None else outage.since)",
        "self.is_late()",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the retry of what was not sent",
        "an op that was not sent is retried, whatever its kind",
        WIRE,
        "return unsent_again and self.ops[i].blocking is None",
        "return unsent_again and self.ops[i].idempotent",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the transaction as a whole",
        "no part of a transaction is sent again when another part ran",
        ROUTED,
        "if self._atomic and len(self.pending) < len(group):",
        "if False:",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the deadline for asking silent nodes",
        "silent nodes are asked until the deadline and no longer",
        ROUTED,
        "            if journey is not None and journey.is_late():\n                break\n",
        "",
        TESTS,
    ),
    Mutant(
        PATTERN,
        "the other nodes of a watcher",
        "a watcher whose node died subscribes to another node",
        CONNECT,
        "nodes[attempt % len(nodes)]",
        "nodes[0]",
        WAKEUPS,
    ),
    Mutant(
        PATTERN,
        "the next try of a waiter",
        "a waiter for a lock goes on when its node dies",
        LOCK,
        "        except Outage:\n            yield from Wait",
        "        except ZeroDivisionError:\n            yield from Wait",
        WAKEUPS,
    ),
    Mutant(
        PATTERN,
        "one try of a dead Sentinel",
        "a Sentinel that does not answer is asked once",
        MEMBERS,
        ', "retry": retry}',
        "}",
        MEMBERS_TESTS,
    ),
)
