"""Judges of what was observed: of a limiter's decisions, of final scores, of histories."""
