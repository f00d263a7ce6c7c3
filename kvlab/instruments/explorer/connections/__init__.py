"""Connections that stop the client program that writes to them.

``stepped`` and ``stepped_async`` stop the program where redis-py writes to the server;
``server_side`` asks whether a blocked client still waits there. ``redis_clients`` makes the clients
with such connections; ``of_libraries`` finds the connections that a library makes itself.
"""
