"""Multi-reward reinforcement learning of local language models: a library on torch and transformers.

Everything that is promised to stay is a name of this module; nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:  # for editors and type checkers, which do not follow `__getattr__`
    from .errors import (
        ExportError as ExportError,
        GDPOError as GDPOError,
        InferenceError as InferenceError,
        MethodError as MethodError,
        PolicyError as PolicyError,
        PromptError as PromptError,
        RewardError as RewardError,
        TrainingError as TrainingError,
    )
    from .evaluation.answers import generate as generate
    from .evaluation.comparison import Comparison as Comparison, compare as compare
    from .export.pipeline import GGUF as GGUF, export_gguf as export_gguf
    from .library import evaluate as evaluate, train as train
    from .objective.methods import METHODS as METHODS, Method as Method
    from .objective.objective import Objective as Objective, combine_rewards as combine_rewards
    from .objective.weighting import WEIGHTINGS as WEIGHTINGS, Weighting as Weighting
    from .plotting.figure import plot_convergence as plot_convergence
    from .policies.loading import load_policy as load_policy
    from .policies.policy import Policy as Policy
    from .progress import Progress as Progress
    from .prompts import Prompt as Prompt, load_prompts as load_prompts, make_prompt as make_prompt
    from .rewards import (
        AnswerMatch as AnswerMatch,
        Completion as Completion,
        Conciseness as Conciseness,
        JSONSchema as JSONSchema,
        Keywords as Keywords,
        Pattern as Pattern,
        Politeness as Politeness,
        Repetition as Repetition,
        Reward as Reward,
        Scorer as Scorer,
        score_rewards as score_rewards,
    )
    from .rewards.functions import FunctionScorer as FunctionScorer, from_trl as from_trl
    from .settings import TrainSettings as TrainSettings
    from .trained_run import TrainedRun as TrainedRun, open_run as open_run

# Where each public name is defined; the same as above, for the names' first use.
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

__all__ = ["__version__", *sorted(_HOMES)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
