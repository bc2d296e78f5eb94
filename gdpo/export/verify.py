"""Does the file hold what was trained? It is loaded and compared, for every silent error found so far showed here.

Compared are the tokenizers, the chat template, the next-token distributions at every position of rendered
prompts with the policy's own answers, the tensor types in the file, and the rewards of its answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ExportError, shorten
from ..llamacpp.generate import generate
from ..llamacpp.runtime import LLAMA_WORKER
from ..policies.chat import encode_texts
from ..policies.policy import Policy
from ..progress import Progress
from ..rewards.reward import Reward
from ..rewards.scoring import score_rewards
from ..workers.process import run_worker
from .material import PROBES, Material

# Positions compared at once: in float64 and with a large vocabulary each takes some MB.
_CHUNK = 32


@dataclass(frozen=True)
class FileCheck:
    """Mean KL(trained model || file) in nats per token, top-1 agreement, and what else differs."""

    kl: float
    top1: float
    positions: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def compare_file(
    path: Path,
    policy: Policy,
    material: Material,
    reference: Sequence[Tensor],
    work: Path,
    progress: Progress,
) -> FileCheck:
    """Load `path` with llama.cpp and compare it with the trained model.

    Args:
        path: The GGUF.
        policy: Whose tokenizer is the right one.
        material: Prompts and answers to compare on.
        reference: Logits from `reference_logits`.
        work: A folder for the file's logits.
        progress: Receiver of the number of positions that are done.

    Raises:
        ExportError: The file cannot be loaded, or tokenises a prompt differently.
    """
    output = work / "logits.npy"
    name, count = f"Verify {path.stem}", len(material.sequences)
    progress.phase(name, 0, count)
    first = run_worker(
        LLAMA_WORKER,
        _request(path, material, output),
        poll=progress.poll,
        on_lines=lambda lines: progress.phase(name, lines - 1, count),
    )[0]
    notes = _compare_tokens(policy, material, first["tokens"])
    problems = _compare_templates(material, first["rendered"])
    logits = np.load(output, mmap_mode="r")
    try:
        if logits.shape[1] != reference[0].shape[1]:
            raise ExportError(
                f"{path.name} has {logits.shape[1]} tokens where the model has {reference[0].shape[1]}; "
                "the converter misread the vocabulary: use another llama.cpp version."
            )
        kl, top1 = divergence(reference, logits)
    finally:
        del logits
        output.unlink()
    return FileCheck(kl, top1, sum(map(len, material.sequences)), problems, notes)


def _request(path: Path, material: Material, output: Path) -> dict[str, Any]:
    """Return what the worker is asked: token ids, rendered conversations, and logits in the file `output`."""
    return {
        "task": f"Loading {path.name} to verify it",
        "command": "logits",
        "gguf": str(path),
        "texts": [*material.rendered, *material.answered, *PROBES],
        "add_bos": material.plain,
        "conversations": [
            [{"role": role, "content": text} for role, text in prompt.messages]
            for prompt in material.prompts
        ],
        "sequences": material.sequences,
        "output": str(output),
    }


def divergence(reference: Sequence[Tensor], logits: np.ndarray) -> tuple[float, float]:
    """Return the mean KL(reference || logits) in nats per position, and the share of equal most likely tokens.

    Args:
        reference: Logits `(positions_i, V)` of each sequence.
        logits: `(sum of positions_i, V)`, in the same order.
    """
    kl, same, row = 0.0, 0, 0
    for expected in (part for sequence in reference for part in sequence.split(_CHUNK)):
        found = torch.from_numpy(np.array(logits[row : row + len(expected)]))
        row += len(expected)
        log_p = expected.double().log_softmax(-1)
        log_q = found.double().log_softmax(-1)
        kl += float((log_p.exp() * (log_p - log_q)).sum())
        same += int((expected.argmax(-1) == found.argmax(-1)).sum())
    return kl / row, same / row


def tensor_types(path: Path) -> dict[str, int]:
    """Tell how many tensors of each type the file really has, most frequent first."""
    from gguf import GGUFReader

    counts = Counter(tensor.tensor_type.name for tensor in GGUFReader(path).tensors)
    return dict(counts.most_common())


def compare_rewards(
    path: Path, material: Material, rewards: Sequence[Reward], progress: Progress
) -> dict[str, dict[str, float | None]]:
    """Return the mean of each reward over the policy's and the file's greedy answers to the same prompts."""
    answers = generate(
        path,
        material.prompts,
        max_new_tokens=material.new_tokens,
        temperature=0.0,
        seed=0,
        progress=progress,
    )
    means = {}
    for column, completions in (("policy", material.answers), ("gguf", answers)):
        scores = score_rewards(rewards, material.prompts, completions, progress.poll)  # (K, N)
        means[column] = [float(row) for row in torch.nanmean(scores, 1)]
    return {
        reward.name: {column: _plain(values[k]) for column, values in means.items()}
        for k, reward in enumerate(rewards)
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _compare_tokens(policy: Policy, material: Material, found: list[list[int]]) -> tuple[str, ...]:
    """Refuse a file that reads a prompt differently; a difference on other texts is worth a note."""
    texts = (*material.rendered, *material.answered, *PROBES)
    own = encode_texts(policy.base.tokenizer, texts)
    notes = []
    for index, (text, ids, expected) in enumerate(zip(texts, found, own, strict=True)):
        if ids == expected:
            continue
        pairs = enumerate(zip(ids, expected, strict=False))
        first = next((i for i, (a, b) in pairs if a != b), min(len(ids), len(expected)))
        difference = (
            f"llama.cpp tokenises {shorten(text)} differently: from token {first} on "
            f"{ids[first : first + 5]} where the model's tokenizer gives {expected[first : first + 5]}"
        )
        if index < len(material.rendered):
            raise ExportError(
                f"{difference}; llama.cpp does not know this tokenizer, or files of it are missing in "
                f"{policy.base.source!r}: get the whole model, with tokenizer.model if it has one."
            )
        notes.append(difference)
    return tuple(notes[:1])


def _compare_templates(material: Material, found: list[str | None]) -> tuple[str, ...]:
    for expected, text in zip(material.rendered, found, strict=True):
        if material.plain and text is None:
            continue
        if text != expected:
            return (
                f"the file's chat template renders {shorten(text)}, the model's {shorten(expected)}",
            )
    return ()
