"""Tiny random models of several families as F16 files, all converted by one process of llama.cpp's converter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import make_tokenizer
from gguf_models import LLAMA3_RULE, shared, with_split
from sentence_models import make_gemma

from gdpo.export.converter import find_converter

QWEN2_RULE = LLAMA3_RULE.replace("{1,3}", "")
_CONVERT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from gdpo.export.convert_worker import convert
for folder, converter in json.loads(sys.argv[2]):
    outputs = [["F16", folder + ".gguf"]]
    list(convert({"converter": converter, "model": folder, "name": "m", "outputs": outputs}))
    for name in [one for one in sys.modules if one.startswith("conver")]:
        del sys.modules[name]  # each model has changed it
"""


def families() -> dict:
    """Class, its settings and the split rule of its words, by name."""
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    llama3 |= {"original_max_position_embeddings": 1024}
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    return {
        "llama": ("Llama", {"attention_bias": True, "mlp_bias": True}, None),
        "llama wide heads": ("Llama", {"head_dim": 32, "tie_word_embeddings": True}, LLAMA3_RULE),
        "llama3 frequencies": ("Llama", {"rope_theta": 5e5, "rope_scaling": llama3}, LLAMA3_RULE),
        "llama linear": ("Llama", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}, None),
        "llama yarn": ("Llama", {"rope_scaling": yarn}, None),
        "mistral": ("Mistral", {"sliding_window": None}, None),
        "qwen2": ("Qwen2", {"rope_theta": 1e6, "max_window_layers": 2}, QWEN2_RULE),
        "qwen3": ("Qwen3", {"head_dim": 32, "max_window_layers": 2}, QWEN2_RULE),
        "phi3": ("Phi3", {}, None),
    }


def _write(folder: Path, kind: str, settings: dict, rule: str | None) -> None:
    import torch
    import transformers

    tokenizer = make_tokenizer()
    sizes = {
        "vocab_size": len(tokenizer) + 8,  # some classes of tokenizers add words of their own
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
    }
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**sizes, **settings})
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():  # sharper than usual, norms and biases that matter
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3.0)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if rule:
        with_split(folder, rule)


def _make(folder: Path) -> None:
    names = []
    for name, parts in families().items():
        _write(folder / name, *parts)
        names.append(folder / name)
    names += [make_gemma(folder / f"gemma{number}", number) for number in ("2", "3")]
    asked = [[str(name), str(find_converter())] for name in names]
    code = [sys.executable, "-c", _CONVERT, str(Path(__file__).parents[1]), json.dumps(asked)]
    subprocess.run(code, check=True, capture_output=True)


def family_file(name: str) -> Path:
    """The file of one family; of all of them when the first is asked for."""
    return shared("families", _make) / f"{name}.gguf"


FAMILIES = [*families(), "gemma2", "gemma3"]
