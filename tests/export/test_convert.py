"""Converting, and interrupts of an export on its way."""

from __future__ import annotations

import pytest
from gguf_models import (
    LLAMA3_RULE,
    PROMPTS,
    copied,
    exported,
    needs_converter,
    needs_llama,
    with_split,
)

from gdpo.errors import ExportError
from gdpo.export.pipeline import export_gguf
from gdpo.export.vocabulary import pre_tokenizer_type
from gdpo.policies.loading import load_policy
from gdpo.progress import Progress


@needs_converter
def test_a_split_rule_that_llama_cpp_does_not_know_is_named(tmp_path):
    policy = load_policy(with_split(copied(tmp_path), r"\p{L}+|[^\p{L}]"), device="cpu")
    with pytest.raises(ExportError, match=r"no name for the tokenizer's split rule .*L\}\+"):
        export_gguf(policy, tmp_path / "gguf", "m", types=["F16"])
    assert not list((tmp_path / "gguf").iterdir())


def test_split_rules_get_llama_cpps_names():
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    silent = level | {"use_regex": False}
    llama3 = {"type": "Split", "pattern": {"Regex": LLAMA3_RULE}}
    qwen2 = {"type": "Split", "pattern": {"Regex": LLAMA3_RULE.replace("{1,3}", "")}}

    def name(*parts: dict, **model: object) -> str | None:
        top = {"type": "Sequence", "pretokenizers": list(parts)} if len(parts) > 1 else parts[0]
        return pre_tokenizer_type({"pre_tokenizer": top, "model": model})

    assert name(level) == "gpt-2"
    assert name(digits, level) == "smollm"
    assert name(llama3, silent) == "smaug-bpe"
    assert name(llama3, silent, ignore_merges=True) == "llama-bpe"
    assert name(qwen2, silent) == "qwen2"
    assert name(level | {"add_prefix_space": True}) is None
    assert name(llama3, level) is None  # it would split twice
    assert pre_tokenizer_type({}) is None


class Interrupt(Exception):
    """What a host raises to stop."""


class StopAt(Progress):
    """Raises as soon as a phase begins whose name starts with `name`."""

    def __init__(self, name: str) -> None:
        self.name, self.reached = name, False

    def phase(self, name: str, done: int, total: int) -> None:
        self.reached |= name.startswith(self.name)

    def poll(self) -> None:
        if self.reached:
            raise Interrupt


@needs_llama
@pytest.mark.parametrize("phase", ["Merge", "Convert", "Quantise"])
def test_an_interrupt_leaves_nothing_behind(tmp_path, phase):
    policy = exported().policy
    stop = StopAt(phase)
    with pytest.raises(Interrupt):
        export_gguf(
            policy, tmp_path, "m", types=["F16", "Q4_0"], prompts=PROMPTS[:1], progress=stop
        )
    assert stop.reached
    assert not list(tmp_path.iterdir())
