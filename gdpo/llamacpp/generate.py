"""Answers from a GGUF by llama.cpp, with the file's own chat template."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import InferenceError, shorten
from ..plain_files import open_plain
from ..progress import Progress
from ..prompts import Prompt
from ..rewards.scorer import Completion
from ..workers.process import run_worker
from .runtime import LLAMA_WORKER, runtime_remedy, runtime_version

logger = logging.getLogger(__name__)


def generate(
    gguf: Path,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    progress: Progress = Progress(),  # noqa: B008  has no state
) -> list[Completion]:
    """Let the model in `gguf` complete each prompt.

    Args:
        gguf: The file. Without a chat template in it, prompts are given as plain text.
        prompts: Any number; one process answers them all.
        max_new_tokens: Longest completion; one that reaches it is marked truncated.
        temperature: Divides the logits; 0 takes the likeliest token.
        seed: Number of at least 0; completion i depends on it and on i alone.
        progress: Receiver of the number of answered prompts; it may raise to stop.

    Raises:
        InferenceError: llama-cpp-python is absent, or the file or a prompt cannot be used.
    """
    if not prompts:
        return []
    _check(gguf, max_new_tokens, temperature, seed)
    request = {
        "task": f"Running {gguf.name}",
        "command": "generate",
        "gguf": str(gguf.absolute()),  # the worker starts in another folder
        "conversations": [
            [{"role": role, "content": content} for role, content in prompt.messages]
            for prompt in prompts
        ],
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "seed": seed,
    }
    name = f"Answer with {gguf.stem}"
    progress.phase(name, 0, len(prompts))
    lines = run_worker(
        LLAMA_WORKER,
        request,
        poll=progress.poll,
        on_lines=lambda count: progress.phase(name, count, len(prompts)),
        error=InferenceError,
    )
    if lines[0]["note"]:
        logger.warning("%s: %s", gguf.name, lines[0]["note"])
    return [Completion(line["text"], line["tokens"], line["truncated"]) for line in lines]


def _check(gguf: Path, max_new_tokens: int, temperature: float, seed: int) -> None:
    if runtime_version() is None:
        raise InferenceError(f"Running a GGUF needs llama-cpp-python: {runtime_remedy()}.")
    try:
        with open_plain(gguf) as file:
            magic = file.read(4)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL
        reason = getattr(error, "strerror", None) or str(error)
        raise InferenceError(
            f"There is no file {str(gguf)!r} to be read ({reason}); export the policy first or correct the path."
        ) from error
    if magic != b"GGUF":
        raise InferenceError(
            f"{gguf.name} is no GGUF file (it starts with {magic!r}); choose another."
        )
    if max_new_tokens < 1:
        raise InferenceError(
            f"`max_new_tokens` must be at least 1. Found {shorten(max_new_tokens)}."
        )
    if not 0 <= temperature <= sys.float_info.max:
        raise InferenceError(f"`temperature` must be 0 or more. Found {shorten(temperature)}.")
    if seed < 0:
        raise InferenceError(f"`seed` must be 0 or more. Found {shorten(seed)}.")
