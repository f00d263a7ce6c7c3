"""Loads the rate limiter and judges what it admitted, and what it denied.

    locust -f loadtests/rate_limiter.py --headless --users 20 --run-time 30s
    kvlab load rate-limiter --algorithm token-bucket

At the end, the judge compares every admission, by the server time that the decision carries, with
the bound of its algorithm, and every denial with what the limiter must admit
(``kvlab.instruments.judges``). One wrong decision makes the exit code 1. The naive sliding
window does not say when it admitted: it is judged by what is beyond doubt alone.

``--host`` takes a Redis URL; without it the run uses the embedded server. ``--app`` loads the
limiter through the sample web app. An app that runs already is ``--host http://…``: it must have
the same algorithm, limit and window, and trust the addresses that 127.0.0.1 forwards.
"""
