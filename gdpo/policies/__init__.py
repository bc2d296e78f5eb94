"""Policies: loading a base safely, its LoRA adapters, its chat template."""
