"""Locust in a fork of a process that has imported it (``kvlab.server.prepared``)."""

from __future__ import annotations

import gevent
from locust.main import main as locust_main


def main() -> None:
    """Locust's command. Its imports have made an event loop, which a fork may not share."""
    gevent.reinit()
    locust_main()
