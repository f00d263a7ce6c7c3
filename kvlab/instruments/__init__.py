"""Workloads, recording, experiments, faults and charts. Nothing here imports a pattern."""
