"""Servers: the embedded Valkey that the processes of one user share, and private ones for tests.

``join()`` gives the shared server, ``leave()`` lets it end; ``engines.start()`` runs a private one.
"""

from __future__ import annotations

from kvlab.server.embedded import Embedded, Status, join, leave, status

__all__ = ["Embedded", "Status", "join", "leave", "status"]
