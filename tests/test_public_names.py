"""The library's face: what `gdpo.X` promises."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from loaded_pack import ROOT, submodule

import gdpo

PROMISED = [
    "AnswerMatch",
    "Comparison",
    "Completion",
    "Conciseness",
    "ExportError",
    "FunctionScorer",
    "GDPOError",
    "GGUF",
    "InferenceError",
    "JSONSchema",
    "Keywords",
    "METHODS",
    "Method",
    "MethodError",
    "Objective",
    "Pattern",
    "Policy",
    "PolicyError",
    "Politeness",
    "Progress",
    "Prompt",
    "PromptError",
    "Repetition",
    "Reward",
    "RewardError",
    "Scorer",
    "TrainSettings",
    "TrainedRun",
    "TrainingError",
    "WEIGHTINGS",
    "Weighting",
    "__version__",
    "combine_rewards",
    "compare",
    "evaluate",
    "export_gguf",
    "from_trl",
    "generate",
    "load_policy",
    "load_prompts",
    "make_prompt",
    "open_run",
    "plot_convergence",
    "score_rewards",
    "train",
]


def test_the_public_names_are_those_that_are_promised():
    assert sorted(gdpo.__all__) == sorted(PROMISED) == sorted(dir(gdpo))


def test_every_public_name_is_there_and_documented():
    for name in PROMISED:
        value = getattr(gdpo, name)
        assert name.isupper() or name == "__version__" or (value.__doc__ or "").strip(), name


def test_type_checkers_are_told_the_same_homes_of_the_names_as_the_lazy_import():
    tree = ast.parse(Path(gdpo.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        (f".{node.module}", alias.name)
        for node in ast.walk(block)
        if hasattr(node, "module")
        for alias in node.names
    }
    assert seen == {(home, name) for name, home in gdpo._HOMES.items()}


def test_the_names_are_there_under_the_path_like_name_that_comfyui_gives_the_pack():
    loaded = submodule("gdpo")
    assert loaded.__name__ != "gdpo"
    assert loaded.make_prompt("a") == loaded.Prompt((("user", "a"),))


def test_a_name_that_is_not_there_is_an_attribute_error():
    assert not hasattr(gdpo, "trainer_that_never_was")


def test_importing_loads_no_library_until_a_name_is_used():
    program = (
        "import sys, gdpo; heavy = {'torch', 'transformers', 'peft', 'matplotlib', 'numpy'}; "
        "assert not heavy & set(sys.modules); gdpo.TrainSettings(); "
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_the_version_is_that_of_the_distribution():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.*)"$', text, re.MULTILINE)[1] == gdpo.__version__
