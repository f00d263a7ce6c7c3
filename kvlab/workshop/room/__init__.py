"""``kvlab room``: a room for a workshop, on the trainer's machine.

Guarantee:

* A participant joins with the code of the room and a name. The name belongs to the secret that
  came with it first: nobody else changes that row.
* Results come in as numbered events. An event that comes twice counts once; what a participant
  did without a connection is made up for later. Results alone are taken, and no code.
* What a participant sends is checked, cut to length, limited in number and rate, and shown as text.
* The room keeps its data in a folder. Killed at any moment, it goes on where it was.

The room runs on kvlab itself: sessions, a leaderboard, flags and limiters.

Keys, below the prefix of the room:

    room:names              hash: name (case folded) → hash of its secret       7 days
    room:shown              hash: name → the name as it was written             7 days
    room:events:{<hash>}    hash: number → event (JSON); by the name's hash     7 days
    room:rows               hash: name → row (JSON)                             7 days
    room:ends               string: when the clock of the room ends             7 days

Not promised: that a result is true. A participant can claim anything for the own row.
"""
