"""Does the file hold what was trained? It is loaded and compared, for every silent error found so far showed here.

Compared are the tokenizers, the chat template, the next-token distributions at every position of rendered
prompts with the policy's own answers, the tensor types in the file, and the rewards of its answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ExportError, shorten
from ..llamacpp.runtime import LLAMA_WORKER
from ..policies.chat import encode_texts
from ..policies.policy import Policy
from ..progress import Progress
from ..workers.process import run_worker
from .material import PROBES, Material

# Positions compared at once: in float64 and with a large vocabulary each takes some MB.
_CHUNK = 32


@dataclass(frozen=True)
class FileCheck:
    """What comparing a file with the model found.

    Attributes:
        kl: Mean KL(model || file) in nats per token.
        top1: Share of positions at which both have the same likeliest token.
        positions: Number of positions that were compared.
        problems: What else differs and makes another model of it.
        notes: What is worth to be known.
        base_kl: The same mean of the base alone, quantised in the same way, on the same texts; None if it was not
            measured.
        rounding: How many times the mean square rounding error of the base's weights that of the file's is.
    """

    kl: float
    top1: float
    positions: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    base_kl: float | None = None
    rounding: float = 1.0


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
    problems += _compare_ends(policy, material, set(first["ends"]))
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
    return FileCheck(kl, top1, sum(material.last), problems, notes)


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
        "last": material.last,
        "said": sorted(material.said | material.ended),
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


def _compare_ends(policy: Policy, material: Material, ends: set[int]) -> tuple[str, ...]:
    """Tell of a token that ends an answer of the policy and not of the file, or the other way round."""
    ignored, early = material.ended - ends, material.said & ends
    if not ignored and not early:
        return ()
    token = min(ignored or early)
    name = shorten(policy.base.tokenizer.convert_ids_to_tokens(token))
    rule = "does not end an answer at" if ignored else "ends an answer at"
    return (f"llama.cpp {rule} the token {name}, other than the training",)


def _compare_templates(material: Material, found: list[str | None]) -> tuple[str, ...]:
    for expected, text in zip(material.rendered, found, strict=True):
        if material.plain and text is None:
            continue
        if text != expected:
            return (
                f"the file's chat template renders {shorten(text)}, the model's {shorten(expected)}",
            )
    return ()
