"""What a load test is made of. ``kvlab.load.record`` keeps and draws what a run saw."""
