"""Judges that know the right answer: of limiters, of scores, of any order of operations."""
