"""Multi-reward reinforcement learning of local language models: a library on torch and transformers.

Everything that is promised to stay is a name of this module; nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import Any

from .version import __version__

# Where each public name is defined.
_NAMES = {
    ".policies.loading": ("load_policy",),
    ".policies.policy": ("Policy",),
    ".prompts": ("Prompt", "load_prompts", "make_prompt"),
    ".rewards": (
        *("AnswerMatch", "Completion", "Conciseness", "JSONSchema", "Keywords", "Pattern"),
        *("Politeness", "Repetition", "Reward", "Scorer", "score_rewards"),
    ),
    ".rewards.functions": ("FunctionScorer", "from_trl"),
    ".objective.objective": ("Objective", "combine_rewards"),
    ".objective.methods": ("METHODS", "Method"),
    ".objective.weighting": ("WEIGHTINGS", "Weighting"),
    ".settings": ("TrainSettings",),
    ".progress": ("Progress",),
    ".library": ("evaluate", "train"),
    ".trained_run": ("TrainedRun", "open_run"),
    ".evaluation.answers": ("generate",),
    ".evaluation.comparison": ("Comparison", "compare"),
    ".export.pipeline": ("GGUF", "export_gguf"),
    ".plotting.figure": ("plot_convergence",),
    ".errors": (
        *("ExportError", "GDPOError", "InferenceError", "MethodError", "PolicyError"),
        *("PromptError", "RewardError", "TrainingError"),
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
