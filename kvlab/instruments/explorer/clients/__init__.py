"""A client program that stops before each command: its thread, its time.

``stops`` names the places where a program can stop. ``client_thread`` runs a program from stop to
stop, on the ``clock`` of the run; ``time_functions`` puts that clock in the place of ``time``.
``blocking_commands`` knows the commands that wait at the server, and ``leftovers`` what a command
leaves behind. ``helper_threads`` does at once what a client gives to a pool of threads.
"""
