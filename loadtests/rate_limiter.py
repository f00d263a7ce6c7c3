"""Loads the rate limiter and judges what it admitted, and what it denied.

    locust -f loadtests/rate_limiter.py --headless --users 20 --run-time 30s
    kvlab load rate-limiter

The load test is ``kvlab.load.rate_limiter``. Importing its Locust file hands the test to Locust.
"""

from kvlab.load.rate_limiter.locustfile import RateLimited

__all__ = ["RateLimited"]
