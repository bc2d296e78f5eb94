"""The bundled starter model: a 3.7 M parameter Llama for a support desk, and its prompts.

Made by two scripts, with fixed seeds and without downloads:
`python -m scripts.starter.dialogues` writes the prompts, `python -m scripts.starter.pretrain` trains the
tokenizer and the model on synthetic dialogues and measures the result (`model/measured.json`,
`model/README.md`). The replies are fluent, but often long, curt or wrong on purpose: that
leaves something to train.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent

MODEL_DIR = _HERE / "model"
TRAIN_PROMPTS = _HERE / "prompts" / "train.jsonl"
HELDOUT_PROMPTS = _HERE / "prompts" / "heldout.jsonl"

__all__ = ["HELDOUT_PROMPTS", "MODEL_DIR", "TRAIN_PROMPTS"]
