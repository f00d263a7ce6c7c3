"""Leaderboard: members ranked by score.

Guarantee: every op is one script and one round trip, so rank, neighbours and scores of an answer
are from one instant. Ties follow the rule that you choose. A score comes back exactly as it was
submitted, or is refused. With ``op_id`` a submission counts once, however often it is sent. Server
down or refusing for now: every op raises, so None means that the server knows no such member.

Example::

    >>> import kvlab
    >>> kv = kvlab.connect()
    >>> board = kvlab.Leaderboard("game", ties="shared")
    >>> for name, points in (("ann", 30), ("bob", 50), ("cid", 30)):
    ...     submission = kv.run(board.submit(name, points))
    >>> [(entry.rank, entry.member) for entry in kv.run(board.top(2))]
    [(1, 'bob'), (2, 'cid')]
    >>> kv.run(board.rank("ann")).rank
    2

Ties

=========  ===============  ==================================================================
``first``  1, 2, 3 (none)   the member that reached the score first ranks higher; a member that
                            submits the score that it has keeps its place
``shared`` 1, 1, 3          as in sports; inside a tie entries are listed by the bytes of their
                            name (descending when the order is), which says nothing about rank
``dense``  1, 1, 2          as ``shared``, but no rank is skipped
=========  ===============  ==================================================================

Cost: submit, rank, around and remove are O(log n) for every rule, top and page O(log n + entries).

* ``first``: a sorted set breaks ties by the bytes of its members. So the name of a member there
  begins with 16 digits: its place in the order of arrival, counted by the board. The score keeps
  all its 53 bits. Price: those digits, and a hash from member to place.
* ``shared``: rank = 1 + ZCOUNT of better scores. It needs only the sorted set.
* ``dense``: rank = 1 + ZCOUNT of better *distinct* scores. The distinct scores are a sorted set of
  their own.

Keys, for ``B`` = ``leaderboard:{<name>}:<order>.<ties>[.<period><shift in s>.<keep>]``; one hash
slot per name. A board with other settings is another board.

=============================  ======  ====================================================
``B:scores``                   zset    all members
``B:places``                   hash    ``first`` only: member → its place
``B:levels``                   zset    ``dense`` only: the distinct scores
``B:state``                    hash    the last place; which period each set holds
``B:<i>:scores`` …             —       the same for period boards, see ``periods.py``
``B:op:<member>:<op_id>``      string  the answer to a submission; TTL ``op_horizon``
=============================  ======  ====================================================

An all-time board has no TTL. The keys of a period expire ``keep`` periods after the period ends;
``B:state`` expires with the last of them.

Not promised: that two ops see the same instant (page 2 may repeat an entry of page 1); exactly one
count after ``op_horizon``; scores that survive a failover (send a submission again with its
``op_id``: a submission counts once, whether the failover lost it or not); anything under a server
that evicts keys without a TTL; that two ``set`` of one member keep the order in which they were
sent, when one is repeated after the other; a board larger than one node of a cluster
(``benchmarks/README.md`` has the edge; the README merges the tops of several boards, which have no
common rank); that a server answers while a large period board expires: under
``lazyfree-lazy-expire no``, the default of Redis, it frees the board first (300,000 members: 0.2
s), and under ``yes``, the default of Valkey, in the background.
"""

from __future__ import annotations

from kvlab.leaderboard.board import Leaderboard
from kvlab.leaderboard.naive import NaiveLeaderboard
from kvlab.leaderboard.values import Entry, Page, Submission

__all__ = ["Entry", "Leaderboard", "NaiveLeaderboard", "Page", "Submission"]
