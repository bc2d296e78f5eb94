"""Samples the same batch with each engine: ours, `generate`, transformers' continuous batching and llama.cpp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gdpo.prompts import Prompt

GROUP = 8
# Tokens in a page of continuous batching's cache.
PAGE = 256

Engine = Callable[[], int]  # samples once, and returns the number of tokens


@dataclass(frozen=True)
class Job:
    """A model with its adapter, and a batch of prompts in groups.

    Attributes:
        model: Model with the adapter on.
        tokenizer: The model's tokenizer.
        batch: Completions at a time.
        new_tokens: Length of each completion.
        gguf: The same model as a GGUF file for llama.cpp; None where it could not be exported.
    """

    model: Any
    tokenizer: Any
    batch: int
    new_tokens: int
    gguf: Path | None

    @property
    def group(self) -> int:
        """Completions of each prompt."""
        return min(GROUP, self.batch)

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """Return prompts of the starter's training set."""
        from gdpo.prompts import load_prompts
        from gdpo.starter import TRAIN_PROMPTS

        return load_prompts(TRAIN_PROMPTS)[: self.batch // self.group]

    @cached_property
    def ids(self) -> list[list[int]]:
        """Return token ids of each prompt."""
        from gdpo.policies.chat import encode_prompt

        return [encode_prompt(self.tokenizer, prompt) for prompt in self.prompts]

    @property
    def rows(self) -> list[list[int]]:
        """Return token ids of the prompt of each completion."""
        return [ids for ids in self.ids for _ in range(self.group)]


def engines(job: Job) -> dict[str, Callable[[], Engine]]:
    """Functions that prepare each engine for the job, by the engine's name."""
    found: dict[str, Callable[[], Engine]] = {
        "generate": lambda: lambda: by_generate(job),
        "gdpo": lambda: lambda: by_gdpo(job),
        "continuous batching": lambda: lambda: by_continuous_batching(job),
    }
    return found | ({"llama.cpp": lambda: _llama(job)} if job.gguf else {})


def _llama(job: Job) -> Engine:
    from benchmarks.speed.llama_engine import Llama

    return Llama(job).run


def by_gdpo(job: Job) -> int:
    """Sample with this pack's engine."""
    from gdpo.rollouts import sample

    options = {"group_size": job.group, "max_new_tokens": job.new_tokens, "seed": 0}
    return int(sample(job.model, job.tokenizer, job.prompts, **options).lengths.sum())


def by_generate(job: Job) -> int:
    """Sample with transformers' `generate`, prompts padded on the left."""
    import torch

    rows, width = job.rows, max(map(len, job.ids))
    padding = [width - len(row) for row in rows]
    pairs = list(zip(padding, rows, strict=True))
    with torch.no_grad():
        found = job.model.generate(
            input_ids=torch.tensor([[job.tokenizer.pad_token_id] * n + row for n, row in pairs]),
            attention_mask=torch.tensor([[0] * n + [1] * len(row) for n, row in pairs]),
            max_new_tokens=job.new_tokens,
            do_sample=True,
            top_k=0,
            pad_token_id=job.tokenizer.pad_token_id,
        )
    return found[:, width:].numel()


def by_continuous_batching(job: Job) -> int:
    """Sample with transformers' continuous batching, called anew for each batch as a trainer would.

    The cache is sized by what the job needs. Left to itself it takes 80 % of the machine's memory and a mask as
    wide, and seconds to fill them.
    """
    import torch
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    longest = max(map(len, job.ids))
    pages = -(-(longest + job.new_tokens) // PAGE) + 1
    cache = ContinuousBatchingConfig(
        page_size=PAGE,
        num_blocks=job.batch * pages,
        max_batch_tokens=max(PAGE, job.batch * longest),
    )
    config = GenerationConfig(
        max_new_tokens=job.new_tokens, do_sample=True, top_k=0, eos_token_id=-1, pad_token_id=0
    )
    with torch.no_grad():
        found = job.model.get_base_model().generate_batch(
            job.rows,
            generation_config=config,
            continuous_batching_config=cache,
            progress_bar=False,
        )
    count = sum(len(output.generated_tokens) for output in found.values())
    if count < job.batch:
        raise RuntimeError(f"it produced {count} tokens for {job.batch} prompts")
    return count
