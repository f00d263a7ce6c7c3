"""What :mod:`kvlab.instruments.interleave` is made of, from the bottom up.

``lanes`` moves client threads one at a time, ``stepping`` makes redis-py's connections stop in
them, ``clients`` are what a program is given. ``footprints`` knows which commands may change
places, ``events`` what can happen. ``scene`` is one run, ``search`` goes along every way,
``theatre`` is the server and all that must be gone at the end; ``findings`` is what is kept of the
runs, ``crew`` makes them in several processes. ``wording``, ``timeline`` and ``diagram`` tell a run
to people; ``playing`` makes a run from its schedule, to be told.
"""
