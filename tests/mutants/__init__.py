"""Does the suite notice when a hardening is gone? One mutant for each, and the tests that should.

``make mutants`` takes each hardening out, in a copy of the program, and expects the tests to fail.
``tests/MUTANTS.md`` says what was taken out and which test failed; it is written by that command.
"""

from __future__ import annotations

from mutants import (
    cache_aside,
    cluster,
    core,
    distributed_lock,
    explorer,
    feature_flags,
    leaderboard,
    pipeline,
    rate_limiting,
    rest,
    sessions,
    write_through,
)
from mutants.mutant import PATTERNS, ROOT, Mutant, Rotten

MUTANTS: tuple[Mutant, ...] = (
    *cache_aside.MUTANTS,
    *write_through.MUTANTS,
    *rate_limiting.MUTANTS,
    *sessions.MUTANTS,
    *distributed_lock.MUTANTS,
    *leaderboard.MUTANTS,
    *pipeline.MUTANTS,
    *feature_flags.MUTANTS,
    *core.MUTANTS,
    *cluster.MUTANTS,
    *rest.MUTANTS,
    *explorer.MUTANTS,
)

__all__ = ["MUTANTS", "PATTERNS", "ROOT", "Mutant", "Rotten"]
