"""Evaluation on held-out prompts, and models side by side."""
