"""Answers from a policy or from a GGUF file, asked in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..llamacpp.generate import generate as generate_from_gguf
from ..policies.policy import Policy, attached
from ..progress import Progress
from ..prompts import Prompt, as_prompts
from ..rewards.scorer import Completion
from .heldout import complete


def generate(
    model: Policy | str | Path,
    prompts: Sequence[Prompt | str],
    *,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Completion]:
    """Let a model complete each prompt.

    Args:
        model: A policy, trained or not, or the path of a GGUF file, which llama.cpp runs.
        prompts: Any number; a text is a user's message.
        max_new_tokens: Longest completion; one that reaches it is marked truncated.
        temperature: Divides the logits; 0 takes the likeliest token. 1 is what training samples with.
        seed: Number of at least 0; the same seed gives the same completions.
        progress: Receives the number of answered prompts, and may stop the work by raising.

    Raises:
        PromptError: `prompts` is one text instead of a list.
        InferenceError: llama-cpp-python is absent, or the file or a prompt cannot be used.
    """
    asked, progress = as_prompts(prompts), progress or Progress()
    if not isinstance(model, Policy):
        return generate_from_gguf(
            Path(model),
            asked,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            progress=progress,
        )
    with attached(model) as attached_model:
        return complete(
            attached_model,
            model.base.tokenizer,
            asked,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=seed,
            progress=progress,
        )
