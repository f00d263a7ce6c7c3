"""Sessions: who a browser is, from one request to the next.

Guarantee of :class:`SessionStore`:

* An id is accepted only if a store made it: 256 random bits, found by their SHA-256. Text from a
  client never becomes an id or a key that is written. No id reaches the server: neither a dump of
  the keys nor MONITOR gives access. The look-up is by hash, so its time does not show how much of
  a guess is right.
* A session ends after ``idle`` seconds without use, and ``absolute`` seconds after its start
  however much it is used; both by the server's clock.
* An update merges fields in one step: of two concurrent updates of different fields both stay. A
  session that has ended stays ended.
* A rotation ends the old id in the same step that makes the new id. A log-out by the old id wins
  all the same: for a minute after the rotation it ends the session under its new id.
* Server down or refusing for now: no user is logged in. ``read`` answers None, or with ``strict``
  raises, so that "nobody" and "don't know" differ. Every change raises.

Example::

    >>> import kvlab
    >>> kv = kvlab.connect()
    >>> store = kvlab.SessionStore(idle=1800, absolute=86400)
    >>> session = kv.run(store.create(7, {"theme": "dark"}))
    >>> kv.run(store.read(session.id)).data
    {'theme': 'dark'}
    >>> kv.run(store.destroy(session.id))
    True
    >>> kv.run(store.update(session.id, theme="light")) is None    # an ended session stays ended
    True

Keys: one per user, so that the sessions and their list cannot disagree:

    sessions:<name>:{<tag>}    hash; TTL: one second longer than its longest session
        m:<handle>             "created last-seen expires deadline user": Unix ms, user as JSON;
                               after a rotation a tab, and at most ten former handles, each with
                               the time (Unix ms) until which a log-out by it ends the session
        d:<handle>             the data: a JSON object, one field a line
        a handle is the SHA-256 of a session's id, in hex

An id is ``<tag>.<secret>``. The tag has 128 bits and names the hash (and the Cluster slot) of the
user. It is a SHA-256 of store name and user: two cookies show whether they belong to one user, and
a guess of the user's id can be tested against the tag. With ``pepper``, a secret that your servers
share, only your servers can test guesses. An anonymous session has a random tag.

To change the pepper, move the old one to ``old_peppers``: ``SessionStore(pepper=new,
old_peppers=[old])``. An id works as before, whatever the pepper. ``create`` (for ``per_user``),
``list``, ``destroy_all`` and ``destroy_listed`` then see the user's sessions under both, in one
round trip; on Cluster they cannot, since the keys have different slots. No session moves. When the
servers change one after the other, name the new pepper as an old one on all of them first. An old
pepper may go ``absolute`` seconds after the last server has changed.

A login ends the anonymous session and starts another; the two are never both alive::

    kv.run(store.destroy(old), store.create(user), atomic=True)      # one round trip

On Cluster the two have different slots and no common step: run ``destroy``, then ``create``. When
the rights of the same user change (new password, sudo), use ``rotate``.

Not promised: that the data of a timed-out session leaves memory before the user's next ``create``
or ``list``, or before the user's other sessions end; true durations when the server's clock is set;
that a failover keeps the last writes: a log-out among them returns, and a rotation is undone. Data
and user ids are stored in clear text. A stolen cookie gives access.
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
