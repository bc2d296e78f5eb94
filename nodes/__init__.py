"""The nodes: thin wrappers around the library, one node in one file.

`checks` declares and checks their inputs, `comfy` alone touches ComfyUI, `headless` runs saved workflows without it.
"""

from __future__ import annotations

from .chat import GDPOChat
from .combine_rewards import GDPOCombineRewards
from .compare import GDPOCompare
from .define_reward import REWARD_NODES
from .export_gguf import GDPOExportGGUF
from .load_model import GDPOLoadModel
from .load_prompts import GDPOLoadPrompts
from .load_run import GDPOLoadRun
from .plot_convergence import GDPOPlotConvergence
from .train import GDPOTrain

# The ids stand in saved workflows: they never change. The names may.
NODE_CLASS_MAPPINGS: dict[str, type] = {
    "GDPOLoadModel": GDPOLoadModel,
    "GDPOLoadPrompts": GDPOLoadPrompts,
    "GDPOLoadRun": GDPOLoadRun,
    **REWARD_NODES,
    "GDPOCombineRewards": GDPOCombineRewards,
    "GDPOTrain": GDPOTrain,
    "GDPOPlotConvergence": GDPOPlotConvergence,
    "GDPOExportGGUF": GDPOExportGGUF,
    "GDPOChat": GDPOChat,
    "GDPOCompare": GDPOCompare,
}

NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = {
    "GDPOLoadModel": "Load Model (GDPO)",
    "GDPOLoadPrompts": "Load Prompts (GDPO)",
    "GDPOLoadRun": "Load Run (GDPO)",
    **{
        node_id: f"Define Reward: {node_class.scorer_class.kind}"
        for node_id, node_class in REWARD_NODES.items()
    },
    "GDPOCombineRewards": "Combine Rewards",
    "GDPOTrain": "GDPO Train",
    "GDPOPlotConvergence": "Plot Convergence (GDPO)",
    "GDPOExportGGUF": "Export GGUF via llama.cpp",
    "GDPOChat": "Chat (GGUF)",
    "GDPOCompare": "Compare (GDPO)",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
