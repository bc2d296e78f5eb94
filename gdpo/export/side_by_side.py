"""A GGUF base beside its own file: does what was loaded compute what llama.cpp computes by the file?

Transformers reads a GGUF file by tables of its own. What they leave out or take for something else makes another model
without any error, so the two are run on a few texts.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InferenceError, PolicyError, shorten
from ..llamacpp.runtime import LLAMA_WORKER, runtime_remedy, runtime_version
from ..policies.chat import encode_prompts, encode_texts
from ..policies.policy import Policy
from ..progress import Progress
from ..prompts import Prompt
from ..unpacking.folder import describe, is_gguf
from ..workers.process import run_worker
from .in_memory import LIMITS, probe_policy, unexplained
from .material import PROBE_TOKENS, PROBES
from .verify import divergence

logger = logging.getLogger(__name__)

# Largest share of the logits' variance that may differ, beside what the loaded precision itself rounds. Llama.cpp rounds
# what it multiplies packed weights with to 8 bits: measured 0.002 on Gemma 3 of 268 million weights, 0.0009 on a random
# model of half a million. Of files that are not packed: 4e-5 and less. A wrong scale or order gives 0.3 and more.
_PACKED, _EXACT = 0.02, 1e-3
_PROMPT = Prompt((("user", "Hello! How can you help me today?"),))


@dataclass(frozen=True)
class Agreement:
    """How near a loaded model is to its file in llama.cpp.

    Attributes:
        kl: Mean KL(file || loaded) in nats per token.
        top1: Share of positions at which both have the same likeliest token.
        unexplained: Share of the logits' variance that differs.
        positions: Number of positions.
    """

    kl: float
    top1: float
    unexplained: float
    positions: int


def agreement(policy: Policy, poll: Callable[[], None] = lambda: None) -> Agreement:
    """Compare a base that was loaded from a GGUF file with the file.

    Args:
        policy: A policy without an adapter.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        PolicyError: They read a text or compute otherwise; the message says what to do.
        InferenceError: Llama.cpp cannot run the file.
    """
    source, tokenizer = Path(policy.base.source), policy.base.tokenizer
    texts: list[str] = [*PROBES]
    with suppress(
        PolicyError
    ):  # a template may refuse what it wants; a training says it of its own prompts
        texts.append(encode_prompts(tokenizer, [_PROMPT], poll=poll)[0].text)
    own = encode_texts(tokenizer, texts)
    with tempfile.TemporaryDirectory(prefix="gdpo-") as folder:
        output = Path(folder) / "logits.npy"
        request = {
            "task": f"Comparing the model with {source.name}",
            "command": "logits",
            "gguf": str(source.absolute()),
            "texts": texts,
            "add_bos": not tokenizer.chat_template,
            "conversations": [],
            "sequences": [ids[:PROBE_TOKENS] for ids in own[: len(PROBES)]],
            "output": str(output),
        }
        found = run_worker(LLAMA_WORKER, request, poll=poll, error=InferenceError)[0]["tokens"]
        logits = np.load(output)
    _check_tokens(source, texts, own, found)
    return _judged(policy, logits, poll)


def _check_tokens(source: Path, texts: list[str], own: list[list[int]], found: list) -> None:
    for text, ids, other in zip(texts, own, found, strict=True):
        if ids != other:
            raise PolicyError(
                f"The tokenizer that transformers makes of {str(source)!r} reads {shorten(text, 40)} as "
                f"{shorten(ids)}, llama.cpp as {shorten(other)}; choose the model's folder with tokenizer.json and "
                "*.safetensors."
            )


def _judged(policy: Policy, logits: np.ndarray, poll: Callable[[], None]) -> Agreement:
    import torch

    class Polling(Progress):
        def poll(self) -> None:
            poll()

    reference, loaded, row = [], probe_policy(policy, Polling()), 0
    for part in loaded:
        reference.append(torch.from_numpy(np.array(logits[row : row + len(part)])))
        row += len(part)
    kl, top1 = divergence(reference, torch.cat(loaded).numpy())
    share = unexplained(reference, loaded)
    allowed = _EXACT if describe(Path(policy.base.source))[1] else _PACKED
    if not share <= allowed + LIMITS[policy.base.precision]:
        raise PolicyError(
            f"The model that transformers makes of {policy.base.source!r} is another one than llama.cpp runs: "
            f"{share:.2g} of the variance of its logits differs; choose the model's folder with config.json and "
            "*.safetensors, or another version of transformers."
        )
    return Agreement(kl, top1, share, row)


def about_file(policy: Policy, poll: Callable[[], None] = lambda: None) -> str:
    """Return what a GGUF base was made of, and how near it is to its file; nothing of any other base.

    Args:
        policy: A policy without an adapter.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        PolicyError: It is another model than llama.cpp runs by the file.
    """
    source = Path(policy.base.source)
    if not is_gguf(source):
        return ""
    about, _ = describe(source)
    if runtime_version() is None:
        return f"{about}; not compared with the file: {runtime_remedy()}"
    try:
        found = agreement(policy, poll)
    except InferenceError as error:  # llama.cpp itself cannot run the file
        logger.warning("%s", error)
        return f"{about}; not compared with the file: {error}"
    nearness = f"KL {found.kl:.2g}, top-1 {found.top1:.0%} at {found.positions} positions"
    return f"{about}; beside the file in llama.cpp: {nearness}"
