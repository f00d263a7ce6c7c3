"""Play the scheduler: a page in which the reader chooses what happens next in an exploration.

From the bottom up:

* ``tree``: the runs of an exploration, and the state of the keys after each step;
* ``content``: the tree in words, each part that occurs again written once;
* ``page``: one HTML file with all of it (``game.html``, ``game.css``, ``game.js``), and how a
  notebook shows the file.

No run is made up: every move, reply, key and TTL of the page is one that the server gave.
"""
