"""The explorer: runs small programs under every order of their commands, with faults.

``explore`` and ``replay`` are in :mod:`~kvlab.instruments.explorer.explore`. From the bottom up:
``run`` is one run of the clients, ``search`` goes along every way, ``findings`` keeps what the
runs showed, ``processes`` makes them in several processes, ``playing`` makes a run from its
schedule, ``telling`` tells a run to people.
"""
