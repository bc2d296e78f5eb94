"""Measures what directing K rewards costs: `python run.py bench cost`."""
