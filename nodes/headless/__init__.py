"""Runs workflows without ComfyUI."""
