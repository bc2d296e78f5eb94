"""Processes of their own for whatever must not bring this one down: foreign programs, and files of strangers."""
