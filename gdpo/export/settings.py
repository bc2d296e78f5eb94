"""Settings of a model as llama.cpp's converter expects them, where transformers reads them and tells them otherwise.

The converter was written for the names of published config.json files. Newer versions of transformers keep some of them
under another name alone; and of the layers that only draft tokens (multi-token prediction) they tell without loading
them, so that a merged model has none.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

# Families of which the converter asks how much of a head is rotated; the share of others it finds by itself.
_ROTATED_SHARE = {"cohere2", "gpt_neox"}
_ROTATED_WIDTH = {"minimax_m2"}
_DRAFT_LAYERS = "num_nextn_predict_layers"


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
                _complete(settings)
        return found

    owner.load_hparams = staticmethod(load_hparams)


def _complete(settings: dict[str, Any]) -> None:
    if settings.get(_DRAFT_LAYERS):
        settings[_DRAFT_LAYERS] = 0
    kind = settings.get("model_type")
    share = (settings.get("rope_parameters") or {}).get("partial_rotary_factor", 1.0)
    if kind in _ROTATED_SHARE:
        settings.setdefault("rotary_pct", share)
    if kind in _ROTATED_WIDTH:
        settings.setdefault("rotary_dim", int(share * settings["head_dim"]))
