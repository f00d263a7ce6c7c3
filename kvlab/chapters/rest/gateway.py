"""A gateway for a chapter, which ends with the notebook's process."""

from __future__ import annotations

import atexit
from contextlib import ExitStack

from kvlab.rest_gateway import ServedGateway, serving


def open_gateway(store: str) -> ServedGateway:
    """``kvlab rest`` over the store at that URL, on a free port of loopback, with new tokens."""
    stack = ExitStack()
    gateway = stack.enter_context(serving(store))
    atexit.register(stack.close)
    return gateway
