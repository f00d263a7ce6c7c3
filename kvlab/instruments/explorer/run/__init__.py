"""One run of several clients: what moves them, what may happen next, what happened."""
