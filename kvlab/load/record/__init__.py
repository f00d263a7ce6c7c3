"""The record of a load run: its folder, its charts, its report, its summary."""
