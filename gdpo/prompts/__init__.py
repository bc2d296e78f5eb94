"""Prompts, and the files of all kinds that people keep them in."""

from .loading import load_prompts
from .prompt import Prompt, as_prompts, make_prompt

__all__ = ["Prompt", "as_prompts", "load_prompts", "make_prompt"]
