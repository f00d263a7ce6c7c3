"""Adapters of libraries from PyPI, for the explorer: about ten lines for each library.

``promises``: what each family of libraries promises, as an invariant. ``limiters``, ``locks``,
``caches``, ``others``: the adapters. ``explored``: what the explorer finds. ``replayed``: the same
schedule on a real server, without the explorer.
"""
