"""Copies of a model folder with other weights."""

from __future__ import annotations

import json
import shutil

from safetensors.torch import load_file, save_file


def changed(source, folder, change, *, shards=1):
    """A copy of the model with other tensors, in one file or several."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    state = change(load_file(source / "model.safetensors"))
    if shards == 1:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        return folder
    names, places = list(state), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: state[name] for name in names[shard::shards]}
        save_file(part, folder / file, {"format": "pt"})
        places.update(dict.fromkeys(part, file))
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
