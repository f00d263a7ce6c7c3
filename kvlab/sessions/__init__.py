"""Sessions: who a browser is, from one request to the next.

Guarantee of :class:`SessionStore`:

* An id is accepted only if a store made it: 256 random bits, found by their SHA-256. What a client
  sends never becomes an id or a key that is written, and no id reaches the server: neither a dump
  of the keys nor MONITOR lets anybody in. The look-up is by hash, so the time it takes tells
  nothing about how much of a guess is right.
* A session ends after ``idle`` seconds without use, and ``absolute`` seconds after it began
  however much it is used; both by the server's clock.
* An update merges fields in one step: of two concurrent updates of different fields both stay, and
  a session that has ended stays ended.
* Rotation kills the old id in the same step that makes the new one.
* Server down: nobody is in. ``read`` answers None; whatever changes something raises.

Keys, one per user, so that the sessions and the list of them cannot disagree:

    sessions:<name>:{<tag>}    hash; TTL: a second more than its longest-lived session has left
        m:<handle>             "created last-seen expires deadline user": Unix ms, user as JSON
        d:<handle>             the data: a JSON object, one field a line
        a handle is the SHA-256 of a session's id, in hex

An id is ``<tag>.<secret>``. The tag, 128 bits, says which user's hash (and which Cluster slot) to
look in. It is a SHA-256 of store name and user: of two cookies one sees whether they belong to the
same user, and a guess of the user's id can be tested against it. With ``pepper``, a secret that
your servers share, only they can test guesses. An anonymous session has a random tag.

A login ends the anonymous session and starts another; the two are never both alive::

    kv.run(store.destroy(old), store.create(user), atomic=True)      # one round trip

On Cluster the two have different slots and no step is common to them: run ``destroy``, then
``create``. For a change of rights of the same user (password change, sudo) use ``rotate``.

Not promised: that the data of a session that timed out leaves memory before the user's next
``create`` or ``list``, or the end of the user's other sessions; true durations when the server's
clock is set; that a failover keeps the last writes, a logout among them. Data and user ids are
stored legibly, and who steals the cookie is in.
"""

from __future__ import annotations

from kvlab.sessions.cookie import SessionCookie
from kvlab.sessions.naive import NaiveSessions
from kvlab.sessions.store import SessionStore
from kvlab.sessions.values import REMOVE, ListedSession, Session

__all__ = [
    "REMOVE",
    "ListedSession",
    "NaiveSessions",
    "Session",
    "SessionCookie",
    "SessionStore",
]
