"""Settings of a model as llama.cpp's converter expects them, where transformers reads them and tells them otherwise.

The converter was written for the names of published config.json files. Newer versions of transformers keep some of them
under another name alone; and of the layers that only draft tokens (multi-token prediction) they tell without loading
them, so that a merged model has none.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

_DRAFT_LAYERS = "num_nextn_predict_layers"
_OWN_KEYS = "new_decoder_architecture"
# Families of which the converter asks how much of a head is rotated; the share of others it finds by itself.
_ROTATED_SHARE = {"cohere2", "gpt_neox"}
_ROTATED_WIDTH = {"minimax_m2"}
# What a family always does in transformers, which therefore does not write it.
_SIGMOID = {"scoring_func": "sigmoid"}
_FIXED: dict[str, dict[str, Any]] = {
    "afmoe": {**_SIGMOID, "route_norm": True},
    **dict.fromkeys(
        ("deepseek_v3", "dots1", "exaone_moe", "glm4_moe_lite", "minimax_m2"), _SIGMOID
    ),
}
# Kinds of layers that the converter compares with the names in published files.
_OLDER_LAYERS = {
    "granitemoehybrid": {"full_attention": "attention"},
    "qwen4_exp_text": {"indexed_attention": "full_attention"},
}


def complete_settings(module: ModuleType) -> None:
    """Let the converter, loaded as `module`, find every setting by the name it asks for, and expect no draft layers."""
    holder = sys.modules.get("conversion", module)
    owner: Any = getattr(holder, "ModelBase", None) or getattr(module, "Model", None)
    if not hasattr(owner, "load_hparams"):
        return
    if hasattr(owner, "no_mtp"):
        owner.no_mtp = True
    load = owner.load_hparams

    def load_hparams(*arguments: object, **options: object) -> dict[str, Any]:
        found = load(*arguments, **options)
        for settings in (found, found.get("text_config")):
            if isinstance(settings, dict):
                complete(settings)
        return found

    owner.load_hparams = staticmethod(load_hparams)


def complete(settings: dict[str, Any]) -> None:
    """Add what the converter asks for, as a published config.json would tell it."""
    if settings.get(_DRAFT_LAYERS):
        settings[_DRAFT_LAYERS] = 0
    kind = settings.get("model_type", "")
    share = (settings.get("rope_parameters") or {}).get("partial_rotary_factor", 1.0)
    added = dict(_FIXED.get(kind, {}))
    if kind in _ROTATED_SHARE:
        added["rotary_pct"] = share
    if kind in _ROTATED_WIDTH:
        added["rotary_dim"] = int(share * settings["head_dim"])
    if layers := settings.get("mlp_layer_types"):
        added["first_k_dense_replace"] = [*layers, "sparse"].index("sparse")
    settings.update({name: value for name, value in added.items() if name not in settings})
    if "layer_types" in settings:
        settings["layer_types"] = older_layers(kind, settings["layer_types"])
    if kind == "falcon" and settings.get("multi_query") and not settings.get(_OWN_KEYS):
        # All heads share one there, whatever number transformers fills in.
        settings["num_kv_heads"] = 1


def older_layers(kind: str, layers: Any) -> Any:
    """Return the kinds of a model's layers by the names in published files of its family `kind`."""
    older = _OLDER_LAYERS.get(kind)
    return [older.get(one, one) for one in layers] if older and layers else layers
