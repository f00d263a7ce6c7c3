"""What a workshop needs around the patterns: the doctor, exercise checks, reset, progress."""
