"""A namespace of its own for each notebook that is open, so that no two of them meet.

Two learners who run the same chapter on one server, or one learner who opens it twice, get
different namespaces inside the default prefix::

    kv = open_chapter("ch05")      # kvlab:ch05:3f2a91c4:
"""

from __future__ import annotations

import atexit
import contextlib
import secrets
from typing import Any

import kvlab
from kvlab import Kv
from kvlab.errors import KvlabError


def open_chapter(name: str, url: str | None = None, **settings: Any) -> Kv:
    """An executor for a namespace that no other notebook uses; emptied when this process ends.

    ``name`` begins the namespace; ``url`` and ``settings`` are those of :func:`kvlab.connect`.
    """
    kv = kvlab.connect(url, **settings).within(name).within(secrets.token_hex(4))
    atexit.register(_empty, kv)
    return kv


def _empty(kv: Kv) -> None:
    with contextlib.suppress(KvlabError):  # the server may have ended first
        kv.clear()
