"""The Locust file of this load test: importing the module hands the load test to Locust."""

from kvlab.load.generator.install import install
from kvlab.load.rate_limiter.load import RateLimiterLoad
from kvlab.load.rate_limiter.user import RateLimited

__all__ = ["RateLimited"]

install(RateLimiterLoad())
