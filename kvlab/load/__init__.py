"""What a load test is made of. ``generator`` runs it under Locust; ``record`` keeps a run."""
