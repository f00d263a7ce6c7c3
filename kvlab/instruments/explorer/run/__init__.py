"""One run of several clients: what may happen next, which faults are allowed, what happened."""
