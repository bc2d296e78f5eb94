"""Measures how fast a step and each of its parts are: `python run.py bench speed`."""
