"""Trains a real model on facts, arithmetic and an instruction: `python run.py bench real`."""
