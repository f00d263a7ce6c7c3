"""The explorer: runs small programs under every order of their commands, with faults.

``explore`` and ``replay`` are in :mod:`~kvlab.instruments.explorer.explore`. From the bottom up:

* ``clients``: a client program that stops before each command;
* ``connections``: where it stops, and how it reaches the server;
* ``server_state``: what the server holds, the same when each run begins;
* ``run``: one run of several clients, the faults, and what may happen next;
* ``search``: makes every run, without those that differ only in the order of steps that commute;
* ``invariants``: why a run does not hold; ``findings``: counts, and the run to show;
* ``processes``: several processes that search together; ``cores``: who runs on which core;
* ``schedules``: makes one run by its schedule;
* ``timeline``: shows a run to people, in text and as a sequence diagram;
* ``game``: shows an exploration as a page to play with;
* ``story``: what ``explore`` returns.
"""
