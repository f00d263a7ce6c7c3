"""Measuring: workloads, experiments, the latency recorder, comparisons, theory."""
