"""Rewards and prompt files that are made to do harm are refused with one line, or end."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from fence import call, errors, refused
from loaded_pack import submodule

prompts = submodule("gdpo.prompts")
scoring = submodule("gdpo.rewards.scoring")
base_rewards = submodule("gdpo.rewards.scorer")

PROMPT = prompts.make_prompt("x")


def score(reward, text):
    completion = base_rewards.Completion(text, 10)
    return scoring.score_rewards([reward], [PROMPT], [completion], lambda: None)


PATTERNS = {
    "deep nesting": ("(" * 499 + "b" + ")" * 499, "a"),
    "nested repetition": (r"(a+)+$", "a" * 5000 + "b"),
    "three loops": (r"a*a*a*a*a*b", "a" * 20_000),
    "look-behind": (r"(?<=(a+)+)c", "a" * 5000),
    "back reference": (r"(a*)*\1b", "a" * 5000),
}


@pytest.mark.parametrize("case", PATTERNS)
def test_catastrophic_pattern_ends_and_is_an_error_not_a_reward(case, fence):
    pattern, text = PATTERNS[case]

    def work():
        (reward,) = call("GDPODefineRewardPattern", name="p", pattern=pattern, syntax="regex")
        return float(score(reward, text))

    assert outcome(work) in {0.0, "refused"}  # no match, found in time, or an error: never a match


def outcome(work: Callable[[], object]) -> object:
    """What `work` gives, or "refused" if that is said on one line."""
    try:
        return work()
    except errors.RewardError as error:
        return "refused" if len(str(error).splitlines()) == 1 else str(error)


DEFINITIONS = {
    "counted repetition": (
        "Pattern",
        {"pattern": "(a{1000}){1000}", "syntax": "regex"},
        "too often",
    ),
    "recursion": ("Pattern", {"pattern": "(a(?R)?b)", "syntax": "regex"}, "recursive"),
    "broken pattern": ("Pattern", {"pattern": "(((", "syntax": "regex"}, "not valid"),
    "long pattern": ("Pattern", {"pattern": "a" * 5000, "syntax": "regex"}, "1000 characters"),
    "format conversion": ("Pattern", {"pattern": "x {a!r}"}, "placeholder"),
    "format width": ("Pattern", {"pattern": "x {a:>1000000000}"}, "placeholder"),
    "schema by HTTP": ("JSONSchema", {"schema": '{"$ref": "http://attacker.example/s"}'}, "inside"),
    "schema by file": ("JSONSchema", {"schema": '{"$ref": "file:///etc/passwd"}'}, "inside"),
    "schema by path": ("JSONSchema", {"schema": '{"$ref": "../outside/secret.txt"}'}, "inside"),
    "schema of a dialect": (
        "JSONSchema",
        {"schema": '{"$schema": "http://attacker.example"}'},
        "draft",
    ),
    "schema nested deeply": ("JSONSchema", {"schema": '{"a":' * 3000 + "1" + "}" * 3000}, "deep"),
    "schema of brackets": ("JSONSchema", {"schema": "[" * 19_000}, "JSON object"),
    "schema with patterns": (
        "JSONSchema",
        {"schema": '{"patternProperties": {"(a+)+$": {}}}'},
        "not supported",
    ),
    "schema with a catastrophe": (
        "JSONSchema",
        {"schema": '{"pattern": "(a{999}){999}"}'},
        "too often",
    ),
    "NaN in a schema": ("JSONSchema", {"schema": '{"minimum": NaN}'}, "not JSON"),
    "thousands of keywords": (
        "Keywords",
        {"required": ",".join(map(str, range(4000)))},
        "at most 500",
    ),
    "name with line ends": ("Politeness", {"name": "a\nb"}, "printable"),
    "NaN target": ("Politeness", {"target": math.nan}, "finite"),
    "infinite threshold": ("Politeness", {"gate_threshold": math.inf}, "finite"),
    "negative preference": ("Politeness", {"preference": -1}, "below the minimum"),
    "gate that is a model": ("Politeness", {"gate": object()}, "GDPO_REWARD"),
}


@pytest.mark.parametrize("case", DEFINITIONS)
def test_reward_that_could_do_harm_is_refused(case, fence):
    kind, inputs, message = DEFINITIONS[case]
    node = f"GDPODefineReward{kind}"
    refused(lambda: call(node, **{"name": "r", **inputs}), message)


def test_schema_that_refers_to_itself_for_ever_ends(fence):
    parts = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(60)}
    schema = {"$defs": {**parts, "d60": {}}, "$ref": "#/$defs/d0"}
    (reward,) = call("GDPODefineRewardJSONSchema", name="s", schema=json.dumps(schema))
    refused(lambda: score(reward, "{}"), "took more than|nested|recursion")


def test_format_string_is_only_text(fence):
    (reward,) = call("GDPODefineRewardPattern", name="p", pattern="say {a.__class__.__mro__}")
    assert float(score(reward, "say hello")) == 1.0


def test_gate_chain_is_limited(fence):
    gate = None
    for _ in range(17):
        (gate,) = call("GDPODefineRewardPoliteness", name="g", **({"gate": gate} if gate else {}))
    refused(lambda: call("GDPODefineRewardPoliteness", name="g", gate=gate), "limited to 16")


FILES = {
    "deep.jsonl": (b'{"prompt": ' + b"[" * 100_000, "nested too deeply|not valid JSON"),
    "object.jsonl": (b'{"a":' * 50_000, "nested too deeply|not valid JSON"),
    "nan.jsonl": (b'{"prompt": "x", "a": NaN}', "NaN is not a JSON number"),
    "number.jsonl": (b'{"prompt": "x", "a": 1e999}', "too large"),
    "digits.jsonl": (b'{"prompt": "x", "a": ' + b"9" * 900_000 + b"}", "not usable"),
    "surrogate.jsonl": (b'{"prompt": "\\ud800"}', "surrogate"),
    "row.jsonl": (b'{"prompt": "' + b"a" * 2_000_000 + b'"}', "longer than"),
    "long.txt": (b"a" * 200_000, "at most 100000"),
    "size.txt": (b"a\n" * (33 * 2**20), "more than 64 MiB"),
    "binary.txt": (b"\xff\xfe\x00\x01", "must be UTF-8"),
    "role.jsonl": (b'{"prompt": [{"role": "root", "content": "x"}]}', "role must be one of"),
    "quotes.csv": (b'prompt\n"' + b"a" * 200_000, "not valid CSV"),
    "wide.csv": (b"prompt" + b"," * 1000 + b"\nx", "at most 1000 are allowed"),
    "empty.csv": (b"", "holds no prompt"),
}


@pytest.mark.parametrize("name", FILES)
def test_prompt_file_that_could_do_harm_is_refused(name, fence):
    content, message = FILES[name]
    (fence.folders.inputs / name).write_bytes(content)
    refused(lambda: call("GDPOLoadPrompts", file=name), message, errors.PromptError)
