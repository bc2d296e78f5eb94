"""Shared fixtures: tiny real models and tokenizers, made on the spot, no network."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from gdpo.threads import waiting_settings

# Before torch and llama.cpp start their threads: those that spin for ever starve each other on small machines.
for name, value in waiting_settings(os.environ).items():
    os.environ.setdefault(name, value)
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
SHARED = "GDPO_TEST_SHARED"  # name of the variable that holds the path of a shared folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the tests of killed trainings and of random damage run for longer than each change deserves."""
    parser.addoption("--kills", type=int, default=6, help="number of trainings to kill")
    parser.addoption(
        "--cases", type=int, default=0, help="random cases of each fuzz test; 0: as many as usual"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make a folder for all processes that share these tests; the first of them removes it at its end."""
    if SHARED not in os.environ:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="gdpo-test-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(SHARED), ignore_errors=True))


def pytest_collection_finish() -> None:
    """Leave out of every later garbage collection what the imports made, which is most of what there is."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # of all tests, some will need these anyway
        import peft  # noqa: F401
        import transformers.models.llama.modeling_llama  # noqa: F401
    gc.freeze()


TEXT = (
    "the printer does not print and the screen stays black please restart the router then check the cable "
    "thank you sorry for the trouble I am happy to help with your order number 0123456789 ?!.,:;"
)


def make_tokenizer(vocab_size: int = 320):
    """A byte-level BPE tokenizer with a chat template, trained on a sentence."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 3, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>"
    )
    fast.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return fast


def make_model(folder: Path, *, seed: int = 0, **changes) -> Path:
    """Write a random two-layer Llama with its tokenizer into `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer()
    config = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        **changes,
    }
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**config))
    with torch.no_grad():  # sharper than the usual initialisation, so that tests see differences
        for parameter in model.parameters():
            parameter.mul_(3.0 if parameter.dim() > 1 else 1.0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A folder with a tiny random Llama."""
    return make_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def tiny_policy(tiny_folder):
    """The tiny Llama, freshly loaded in fp32 on the CPU."""
    from gdpo.policies.loading import load_policy

    return load_policy(tiny_folder, device="cpu")


def need_quantised_cpu():
    """Bitsandbytes, or a skipped test where it or transformers cannot quantise on a CPU."""
    import transformers
    from packaging.version import Version

    if Version(transformers.__version__) < Version("4.56"):
        pytest.skip(f"transformers {transformers.__version__} does not quantise on a CPU")
    return pytest.importorskip("bitsandbytes")
