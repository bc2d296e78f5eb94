"""Runs: their folder, history and checkpoints, and the findings in them."""
