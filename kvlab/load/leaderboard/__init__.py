"""Loads a leaderboard and judges its final scores, and the ranks that it answered.

    locust -f loadtests/leaderboard.py --headless --users 20 --run-time 30s
    kvlab load leaderboard --lose-replies 100

At the end, each score must be the sum (or the best) of the submissions that were acknowledged. A
submission without an answer counts once or not at all. Beside the load, short histories of four
clients on a small board are sampled: their answers must fit one order
(``kvlab.instruments.judges.linearizability``). The naive board fails both: a lost reply makes a
submission count twice, and a player's neighbours are read after the player's rank.

``--host`` takes a Redis URL; without it the run uses the embedded server. ``--app`` loads the
board through the sample web app, which has only one board: no histories are sampled there.
"""
