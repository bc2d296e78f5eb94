"""The trained model in full precision, as a folder that llama.cpp's converter reads.

Merging on a base that is quantised in memory would round the adapter to 4 or 8 bits (measured: KL 1.4
against the trained model instead of 0), so the base is always loaded again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ..errors import ExportError, shorten
from ..plain_files import read_text
from ..policies.digest import TOKENIZER_FILES
from ..policies.loading import load_policy
from ..policies.policy import Policy
from ..unpacking.folder import is_gguf
from .settings import older_layers

# Of GPT-2 and its kin: the converter asks for the first, transformers 5 saves the second alone.
_OLDER_NAMES = {"n_ctx": "n_positions"}


def full_precision(policy: Policy, source: Path, precision: str) -> Policy:
    """The same policy on a base loaded anew from `source`, on the CPU in `precision`.

    Raises:
        ExportError: The files are no longer those that the policy was trained on.
    """
    origin = Path(policy.base.source)
    origin = origin if is_gguf(origin) else source
    base = load_policy(origin, precision=precision, device="cpu").base
    if (base.digest, base.texts) != (policy.base.digest, policy.base.texts):
        raise ExportError(
            f"The model in {str(origin)!r} has changed since it was loaded for training; restore its files, or load "
            "and train it again."
        )
    return Policy(base, policy.adapter)


def save_merged(model: Any, source: Path, folder: Path) -> None:
    """Merge the adapter that is on `model` into it and write the whole model into `folder`.

    Raises:
        ExportError: The merged weights are not finite, or the disk is full.
    """
    from safetensors import SafetensorError

    try:
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload(safe_merge=True)
        model.save_pretrained(folder)
    except (OSError, ValueError, SafetensorError) as error:
        reason = shorten(" ".join(str(error).split()), 200)
        raise ExportError(
            f"The trained model cannot be merged and saved ({reason}); free space, or train again if its weights are "
            "not finite."
        ) from error
    write_surroundings(model, source, folder)


def write_surroundings(model: Any, source: Path, folder: Path) -> None:
    """Write all that the converter reads beside the weights: the configuration and the tokenizer's files.

    Args:
        model: The loaded model.
        source: Folder of its own files.
        folder: Where to write.

    Raises:
        ExportError: The configuration is damaged.
    """
    _keep_config(model, source, folder)
    # The base's own files. Saving a tokenizer again loses some of them (transformers 5 drops tokenizer.model), and
    # the result then tokenises differently without any error.
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    for extra in filter(Path.is_file, source.glob("additional_chat_templates/*.jinja")):
        (folder / extra.parent.name).mkdir(exist_ok=True)
        shutil.copyfile(extra, folder / extra.parent.name / extra.name)


def _keep_config(model: Any, source: Path, folder: Path) -> None:
    """Prefer the base's own config.json: the form that converters of any age know.

    (transformers 5 writes other keys than 4, `rope_parameters` for one.) Where the loaded class is another
    than the file names, as with the language part of a multimodal model, the saved one stays.
    """
    own = source / "config.json"
    # The converter chooses its program by the first name; only that of the class which was loaded and merged is right.
    try:
        named = json.loads(read_text(own)).get("architectures")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ExportError(
            f"{str(own)!r} is damaged ({' '.join(str(error).split())}); get the model's original file."
        ) from error
    target = folder / "config.json"
    if isinstance(named, list) and named[:1] == [type(model).__name__]:
        shutil.copyfile(own, target)
    elif not target.is_file():
        model.config.to_json_file(target)
    _name_otherwise(model, target)


def _name_otherwise(model: Any, file: Path) -> None:
    """Use the older names of settings, which the converter asks for and newer versions of transformers do not write."""
    content = json.loads(read_text(file))
    lacking = {
        name: content[newer]
        for name, newer in _OLDER_NAMES.items()
        if newer in content and name not in content
    }
    layers = content.get("layer_types")  # Granite 4's are read from the file itself
    older = older_layers(content.get("model_type", ""), layers)
    if older != layers:
        lacking["layer_types"] = older
    if not content.get("architectures"):
        lacking["architectures"] = [type(model).__name__]
    if lacking:
        file.write_text(json.dumps({**content, **lacking}, indent=2), encoding="utf-8")
