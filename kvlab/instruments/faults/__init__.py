"""Faults on command: a proxy, a gate at the client, a frozen process, a slow database."""
