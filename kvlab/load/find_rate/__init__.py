"""``kvlab load NAME --find-rate --slo p99=5ms``: the highest open-loop rate that holds.

A rate holds when every percentile of the SLO holds, no promise of the pattern broke, and nearly all
arrivals were sent. The search climbs to the first rate that fails twice: one probe may fail by
chance, when the machine stalls. Then it goes up by a step after a rate that holds and down after
one that does not (the up-and-down method: Dixon and Mood, "A method for obtaining and analyzing
sensitivity data", 1948). The rate found is the middle of the rates at which the search turned; the
lowest and highest of these rates are its spread. Turns far from most turns do not count. A search
that did not end by itself says that it was cut.

Not promised: that the store sets the limit. Where the generator was late, the report says so, and
what the generator itself could do.
"""
