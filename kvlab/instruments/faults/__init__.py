"""Faults on command: a proxy, a gate at the client, a frozen server, a slow database."""
