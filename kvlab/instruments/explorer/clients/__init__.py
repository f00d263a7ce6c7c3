"""A client program that stops before each command: its thread, its time, its connections.

``stops`` names the places where a program can stop. ``client_thread`` runs a program from stop to
stop, on the ``clock`` of the run; ``time_functions`` puts that clock in the place of ``time``.
``connections`` and ``async_connections`` stop the program where redis-py writes to the server;
``blocking_commands`` knows the commands that wait there, and ``server_side`` asks whether they
still do; ``leftovers`` knows what a command leaves behind. ``redis_clients`` makes the clients with
such connections, and ``client_program`` keeps one from run to run. ``own_connections`` finds the
connections that a library makes itself; ``helper_threads`` does at once what a client gives to a
pool of threads.
"""
