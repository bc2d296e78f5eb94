"""A tokenizer from a model's folder; no imports of the pack, as the prompt worker runs it, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# In the tokenizer_config.json of a folder that was made of a GGUF file.
FROM_GGUF = "made_from_gguf"


def load_tokenizer(folder: str) -> Any:
    """Return the tokenizer that transformers makes of a folder's files.

    Newer versions know some architectures' tokenizers better than the files and change what they say. That of a GGUF
    file is taken as it is: it was made to split texts as llama.cpp does.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    kind = PreTrainedTokenizerFast if _is_from_gguf(Path(folder)) else AutoTokenizer
    return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _is_from_gguf(folder: Path) -> bool:
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get(FROM_GGUF) is True
