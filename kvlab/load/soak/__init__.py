"""A soak: every fault at random against the sample app, and a verdict on what must hold all along.

    python -m kvlab.load.soak --minutes 10 --seed 1

The app runs on a private Valkey behind a fault proxy; nothing else on the machine is touched.
Visitors use the app, and callers in this process hold locks, are cancelled, and count in batches,
through the same proxy. Meanwhile one fault follows the other (``faults``). In the end every fault
is healed, and the verdict (``verdict``) says for each promise whether it held. The cold figures
(``cold``) come last; ``--cold`` makes them alone.

The seed fixes the order and the lengths of the faults and what each visitor does. The moments at
which they meet are the machine's.
"""
