"""The load generator: how a load test runs under Locust, in one process or in several."""
