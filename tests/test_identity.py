"""A run goes on with the very rewards that it began with, whoever wrote them."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from types import CellType, FunctionType
from typing import Any, ClassVar

import pytest
from loaded_pack import ROOT, load_file

from gdpo.errors import MethodError, RewardError
from gdpo.identity import UnidentifiedError, identify
from gdpo.objective.methods import METHODS
from gdpo.objective.objective import combine_rewards
from gdpo.objective.weighting import Weighting
from gdpo.policies.loading import load_policy
from gdpo.prompts import make_prompt
from gdpo.rewards import Conciseness, Politeness, Reward
from gdpo.rewards.functions import FunctionScorer, from_trl
from gdpo.rewards.reward import identify_reward
from gdpo.runs.run_file import identify as identify_run
from gdpo.settings import TrainSettings

LEVEL = 0.5


@dataclass(frozen=True)
class Loudness:
    """A scorer of one's own with a plain field."""

    wished: Any = 0.5
    kind: ClassVar[str] = "Loudness"
    summary: ClassVar[str] = "Rewards capital letters."
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def score(self, prompt, completion):
        return float(completion.text.isupper())


def of(scorer) -> str:
    return json.dumps(identify_reward(Reward("r", scorer)), allow_nan=False)


def test_this_packs_own_kinds_are_identified_as_they_always_were():
    kind = {
        "name": "kind",
        "kind": "Politeness",
        "options": {"wanted": 3, "rudeness_penalty": 0.5},
        "target": 1.0,
        "preference": 1.0,
        "gate": None,
        "gate_threshold": 0.5,
    }
    short = {
        "name": "short",
        "kind": "Conciseness",
        "options": {"unit": "words", "shortest": 5, "longest": 40, "tolerance": 40},
    }
    found = identify_reward(Reward("short", Conciseness(), gate=Reward("kind", Politeness())))
    assert found == {**kind, **short, "gate": kind}


@pytest.mark.parametrize("value", [0.6, 1, True, "loud", None, (1, 2), frozenset({"a"}), LEVEL / 3])
def test_a_plain_field_of_ones_own_scorer_counts(value):
    assert of(Loudness(value)) != of(Loudness())
    assert of(Loudness(value)) == of(Loudness(value))


def test_another_class_of_the_same_kind_is_another_reward():
    @dataclass(frozen=True)
    class Other(Loudness):
        def score(self, prompt, completion):
            return float(completion.text.islower())

    assert of(Other()) != of(Loudness())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), iter(())])
def test_what_json_cannot_hold_is_refused_by_name(value):
    with pytest.raises(
        RewardError, match=r"Reward 'r': its scorer Loudness holds .* give it numbers"
    ):
        of(Loudness(value))


def closed_over(level):
    return lambda prompt, completion: float(len(completion.text) > level)


def with_default(prompt, completion, level=1):
    return float(len(completion.text) > level)


def uses_a_constant(prompt, completion):
    return LEVEL


def uses_a_function(prompt, completion):
    return with_default(prompt, completion)


def test_functions_are_told_apart_by_code_closure_and_defaults():
    different = [
        lambda p, c: 0.0,
        lambda p, c: 1.0,
        lambda p, c: c.tokens,
        lambda p, c: c.text,
        closed_over(1),
        closed_over(2),
        with_default,
        functools.partial(with_default, level=2),
        functools.partial(with_default, level=3),
        uses_a_constant,
        uses_a_function,
    ]
    found = [json.dumps(identify(function)) for function in different]
    assert len(set(found)) == len(different)
    assert json.dumps(identify(closed_over(1))) == found[4]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="code has no columns before Python 3.11")
def test_functions_on_one_line_are_told_apart():
    first, second = lambda p, c: len(c.text), lambda p, c: c.tokens
    assert identify(first)["code"] != identify(second)["code"]
    outer = lambda level: lambda p, c: level
    assert identify(outer)["code"] != identify(outer(1))["code"]


def test_a_function_is_the_same_in_every_process(tmp_path):
    """Sets have another order in each process; a run that goes on tomorrow must not notice."""
    program = tmp_path / "program.py"
    program.write_text(
        "import json\nfrom gdpo.identity import identify\n"
        "def agrees(prompt, completion):\n"
        "    return float(completion.text in {'yes', 'sure', 'okay', 'fine', 'right'})\n"
        "print(json.dumps(identify(agrees)))\n"
    )
    found = set()
    for seed in "123":
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        found.add(subprocess.check_output([sys.executable, str(program)], env=environment))
    assert len(found) == 1


def test_comments_and_layout_of_a_function_do_not_count(tmp_path):
    def written(body: str):
        path = tmp_path / f"version{len(list(tmp_path.iterdir()))}.py"
        path.write_text(f"def score(prompt, completion):\n    {body}\n")
        return identify(load_file(path).score)["code"]

    assert written("return 0.5") == written("# Half.\n\n    return (0.5)  # of it")
    assert written("return 0.5") != written("return 0.6")


@pytest.mark.parametrize(
    "function",
    [
        FunctionType(
            closed_over(1).__code__.replace(co_filename="<gone>"), {}, closure=(CellType(1),)
        ),
        FunctionType(with_default.__code__.replace(co_firstlineno=1), {}),
    ],
    ids=["no file", "file changed"],
)
def test_a_function_without_readable_source_is_refused_with_a_remedy(function):
    with pytest.raises(RewardError, match=r"source cannot be read \(write it in a file") as caught:
        of(function)
    assert "\n" not in str(caught.value)


def test_a_constant_and_a_function_that_are_used_count(monkeypatch):
    before = identify(uses_a_constant), identify(uses_a_function)
    monkeypatch.setitem(uses_a_constant.__globals__, "LEVEL", 0.25)
    monkeypatch.setattr(with_default, "__defaults__", (2,))
    assert identify(uses_a_constant) != before[0]
    assert identify(uses_a_function) != before[1]


def test_a_function_that_calls_itself_ends():
    assert identify(countdown) == identify(countdown)


def countdown(prompt, completion):
    return countdown(prompt, completion) if completion else 0.0


def test_a_reward_of_a_function_is_identified_by_it():
    one, other = FunctionScorer(closed_over(1)), FunctionScorer(closed_over(2))
    assert of(one) == of(closed_over(1)) != of(other)
    assert of(replace(one, value_range=(0.0, 2.0))) != of(one)
    assert of(from_trl(with_default)) != of(with_default)
    with pytest.raises(UnidentifiedError, match="a object"):
        identify(object())


def test_a_method_of_ones_own_is_told_from_another_of_its_name(tiny_folder):
    policy = load_policy(tiny_folder, device="cpu")

    def run_with(**options):
        objective = combine_rewards([Reward("r", Conciseness())], **options)
        return identify_run(policy, [make_prompt("a")], [], objective, TrainSettings())

    def mine(level):
        return Weighting("mine", "", lambda gramian, u, deficit: u * level)

    assert run_with()["method"] == "gdpo"
    assert run_with()["weighting"] == "directed"
    assert run_with(weighting=mine(1)) == run_with(weighting=mine(1)) != run_with(weighting=mine(2))
    changed = replace(METHODS["gdpo"], name="mine", directs=False)
    assert run_with(method=changed) != run_with(method=replace(changed, needs_ratios=True))
    with pytest.raises(MethodError, match="holds a object"):
        run_with(weighting=Weighting("mine", "", functools.partial(with_default, level=object())))
