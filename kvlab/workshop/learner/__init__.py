"""What one learner uses: checks, hints, predictions, and the progress that is kept."""
