"""``kvlab bench``: comparisons that are run in turns, kept, and compared with older ones.

A module of ``benchmarks/`` declares what is compared, and the one runner measures it:

    def cases(bench: Bench) -> Iterator[Case]:
        by_hand = bench.calls(lambda: bench.kv.client.get("k"))
        ours = bench.calls(lambda: bench.kv.run(Op("GET", Key("k"))))
        yield Case("GET", "one key, one client", ours, {"redis-py": Peer(by_hand)})

Guarantee: the two sides of a row are measured in the same turns, in random order and its opposite;
every turn is kept. Each run has A/A rows, the same code twice, and a difference inside their noise
is called none. A run keeps versions, seeds and the machine's facts, and no host name, user or path.

Not promised: that a ratio holds on another machine or over a slower network; that a difference
smaller than the noise is seen.
"""

from kvlab.bench.case import Bench, Case, Measure, Peer
from kvlab.bench.run import BenchRun, Row

__all__ = ["Bench", "BenchRun", "Case", "Measure", "Peer", "Row"]
