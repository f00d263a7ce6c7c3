"""The exercises of chapters 1 to 8: one module for each of the eight patterns."""
