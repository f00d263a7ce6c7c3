"""Loads the rate limiter and judges what it admitted, and what it did not.

    locust -f loadtests/rate_limiter.py --headless --users 20 --run-time 30s
    kvlab load rate-limiter

The load test itself is ``kvlab.load.rate_limiter``; this file hands it to Locust.
"""

from kvlab.load.lifecycle import install
from kvlab.load.rate_limiter import RateLimited, RateLimiterLoad

__all__ = ["RateLimited"]

install(RateLimiterLoad())
