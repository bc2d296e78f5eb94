"""Load Model: the bundled starter model, a folder or GGUF file on this machine, or a model of the hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ..gdpo.errors import WorkflowError, shorten
from ..gdpo.export.side_by_side import about_file
from ..gdpo.policies.loading import load_policy
from ..gdpo.policies.policy import Policy
from ..gdpo.policies.precision import PRECISIONS
from ..gdpo.starter import MODEL_DIR
from .checks.guard import guarded
from .checks.inputs import choice, text
from .checks.memory_notice import before_loading
from .checks.paths import list_models
from .comfy import host, memory, progress

STARTER = "starter (bundled)"
MAX_HUB_ID = 96  # the hub's own limit
HUB_ID = re.compile(r"[A-Za-z0-9][\w-]*(\.[\w-]+)*(/[A-Za-z0-9][\w-]*(\.[\w-]+)*)?", re.ASCII)


class GDPOLoadModel:
    """Gives a policy: a frozen language model without an adapter."""

    DESCRIPTION = (
        "Loads a language model to train or to compare with: the small starter model that comes with the "
        "pack, or a Hugging Face folder or GGUF file below models/LLM. Only safetensors and GGUF are read and no code "
        "of a model is run. The model itself is never changed."
    )
    CATEGORY = "GDPO/load"
    SEARCH_ALIASES = (
        "LLM",
        "language model",
        "Hugging Face",
        "transformers",
        "safetensors",
        "GGUF",
    )
    RETURN_TYPES = ("GDPO_MODEL",)
    RETURN_NAMES = ("model",)
    OUTPUT_TOOLTIPS = ("The model, untrained. Link it to GDPO Train, and to Compare as the base.",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Return the node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "model": choice(
                    [STARTER, *list_models()],
                    "The starter model (3.7 million parameters, English support desk; trains on a CPU), or a "
                    "Hugging Face folder (config.json and *.safetensors) or a GGUF file below models/LLM. A GGUF file's "
                    "weights are dequantised first; of a split one the first part stands here.",
                ),
            },
            "optional": {
                "precision": choice(
                    PRECISIONS,
                    "How the frozen model's weights are held: auto is bf16 on an NVIDIA card and fp32 on a "
                    "CPU. int8 and nf4 take about 1/2 and 1/4 of bf16's memory and need bitsandbytes.",
                ),
                "device": choice(
                    ["auto", "cpu", "cuda"],
                    "Where the model works. auto: the card that ComfyUI uses, or a CPU where there is none.",
                ),
                "hub_model": text(
                    "",
                    "Used instead of the menu if not empty: a folder's or GGUF file's name below models/LLM, or a Hugging "
                    "Face id such as Qwen/Qwen2.5-0.5B-Instruct. Downloads happen only if the machine's owner "
                    f"set the environment variable {host.DOWNLOAD_SWITCH}=1; otherwise it must be in the cache.",
                    hint="empty: the menu's model",
                ),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @guarded
    def load(
        self,
        model: str,
        precision: str,
        device: str,
        hub_model: str,
        unique_id: str | None = None,
    ) -> tuple[Policy]:
        """Tell what the weights need, and load the model; see `gdpo.loading.load_policy`."""
        memory.make_room()
        source, device = _source(model, hub_model.strip()), memory.choose_device(device)
        allowed = host.allows_download()
        options = {"allow_download": allowed, "poll": progress.check_interrupt}
        notice = before_loading(source, precision, device, **options)
        host.tell(unique_id, notice)
        policy = load_policy(source, precision=precision, device=device, **options)
        memory.make_room(policy.base)
        found = about_file(policy, progress.check_interrupt)
        if found:
            host.tell(unique_id, f"{found}; {notice}")
        return (policy,)


def _source(model: str, hub_model: str) -> Path | str:
    """Return a listed folder, or a hub id that cannot be mistaken for a path."""
    listed = {STARTER: MODEL_DIR, **list_models()}
    chosen = hub_model or model
    if chosen in listed:
        return listed[chosen]
    is_id = len(chosen) <= MAX_HUB_ID and HUB_ID.fullmatch(chosen)
    if not is_id or os.path.exists(chosen):
        raise WorkflowError(
            f"hub_model is neither a folder or GGUF file below models/LLM nor a Hugging Face id: {shorten(chosen)}; "
            "write org/name, or put the model below models/LLM"
        )
    return chosen
