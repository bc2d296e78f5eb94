"""Compares the memory estimate with real trainings: `python run.py bench memory`."""
