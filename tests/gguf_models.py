"""One tuned random Llama and its real export, made once for all tests that need a GGUF."""

from __future__ import annotations

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import SHARED, make_model

from gdpo.export.converter import ConverterError, find_converter
from gdpo.export.material import gather, reference_logits
from gdpo.export.pipeline import GGUF, export_gguf
from gdpo.export.report import Report
from gdpo.llamacpp.runtime import runtime_version
from gdpo.policies.adapter import read_adapter
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import Policy, attached, trainable
from gdpo.progress import Progress
from gdpo.prompts import make_prompt
from gdpo.rewards import Conciseness, Repetition, Reward

PROMPTS = tuple(
    make_prompt(text)
    for text in (
        "the printer does not print",
        "please restart the router",
        "thank you",
        "order 0123?!",
    )
)
LLAMA3_RULE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
REWARDS = (Reward("short", Conciseness()), Reward("varied", Repetition()))


def _converter_here() -> bool:
    try:
        find_converter()
    except ConverterError:
        return False
    return True


needs_converter = pytest.mark.skipif(
    not _converter_here(), reason="llama.cpp's converter was not fetched (python install.py)"
)
needs_llama = pytest.mark.skipif(
    not _converter_here() or runtime_version() is None,
    reason="llama-cpp-python or llama.cpp's converter is not installed",
)


@dataclass(frozen=True)
class Exported:
    """A tuned policy and its files by type."""

    policy: Policy
    folder: Path
    files: dict[str, GGUF]


def tuned(base: Policy) -> Policy:
    """`base` with a random adapter: without training, B is zero and an adapter changes nothing."""
    with trainable(base, rank=4, alpha=8, seed=0) as model:
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        return Policy(base.base, read_adapter(model))


def shared(name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills, once for all processes that share the tests; two may do it at the same time."""
    root = Path(os.environ[SHARED])
    if not (root / name).is_dir():
        own = Path(tempfile.mkdtemp(dir=root))
        make(own)
        with suppress(OSError):  # another one was faster
            own.rename(root / name)
    return root / name


def model_folder() -> Path:
    """A random Llama whose rows fit K-quants."""
    sizes = {"hidden_size": 256, "intermediate_size": 512}
    return shared("model", lambda folder: make_model(folder, **sizes))


@functools.cache
def exported() -> Exported:
    """The tuned model as F16, Q8_0 and Q4_K_M."""
    policy, types = tuned(load_policy(model_folder(), device="cpu")), ("F16", "Q8_0", "Q4_K_M")
    asked = {"types": types, "prompts": PROMPTS, "rewards": REWARDS}
    folder = shared("gguf", lambda folder: export_gguf(policy, folder, "tiny", **asked))
    files = {}
    for kind in types:
        path = folder / f"tiny-{kind}.gguf"
        report = Report(**json.loads(Path(f"{path}.json").read_text(encoding="utf-8")))
        files[kind] = GGUF(path, kind, report)
    return Exported(policy, folder, files)


def logits_of(policy: Policy):
    """The texts that a file is compared on, and the policy's own logits for them."""
    material = gather(policy, PROMPTS, Progress())
    with attached(policy) as model:
        return material, reference_logits(model, material, Progress())


def copied(folder: Path) -> Path:
    """A copy of the model folder that a test may damage."""
    return Path(shutil.copytree(model_folder(), folder / "model"))


def change_json(path: Path, **changes: object) -> None:
    """Replace top-level entries of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(content), encoding="utf-8")


def with_split(folder: Path, rule: str) -> Path:
    """Give the model's tokenizer another split rule."""
    split = {"type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    parts = [split, level | {"use_regex": False}]
    change_json(
        folder / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": parts}
    )
    return folder
