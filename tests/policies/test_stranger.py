"""Model files that are bombs: the process that uses a model stays small, and says in one line what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gdpo.errors import PolicyError
from gdpo.policies.chat import encode_prompts, encode_texts
from gdpo.policies.loading import load_policy
from gdpo.prompts import make_prompt
from gdpo.starter import MODEL_DIR

PROMPT = make_prompt("hello " + "a" * 60)


def change(folder: Path, name: str, **entries: object) -> None:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def replace(pattern: str, content: str) -> dict:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": content}


def searching(pattern: str) -> dict:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": "b"}


def tokenizer(**entries: object) -> Callable[[Path], None]:
    return lambda folder: change(folder, "tokenizer.json", **entries)


def normalizers(*parts: dict) -> Callable[[Path], None]:
    return tokenizer(normalizer={"type": "Sequence", "normalizers": list(parts)})


def decoders(*parts: dict) -> Callable[[Path], None]:
    return tokenizer(decoder={"type": "Sequence", "decoders": list(parts)})


def config(**entries: object) -> Callable[[Path], None]:
    return lambda folder: change(folder, "config.json", **entries)


def generation(**entries: object) -> Callable[[Path], None]:
    return lambda folder: change(folder, "generation_config.json", **entries)


def template(text: object) -> Callable[[Path], None]:
    return lambda folder: change(folder, "tokenizer_config.json", chat_template=text)


def token(content: str) -> dict:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": 2047, "content": content, "special": True, **flags}


LONG_ROPE = {
    "rope_type": "longrope",
    "factor": 2.0,
    "long_factor": [1.0] * 300_000,
    "short_factor": [1.0] * 300_000,
    "original_max_position_embeddings": 128,
}
BOMBS: dict[str, Callable[[Path], None]] = {
    "normalisers that multiply": normalizers(*[replace("a", "a" * 10)] * 12),
    "normaliser by a slow pattern": tokenizer(normalizer=searching("(a+)+[^a-z]")),
    "normaliser that is garbage": tokenizer(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAAdGVzdA=="}
    ),
    "split by a slow pattern": tokenizer(
        pre_tokenizer={
            "type": "Split",
            "pattern": {"Regex": "(a+)+[^a-z]"},
            "behavior": "Isolated",
            "invert": False,
        }
    ),
    "decoders that multiply": decoders(*[replace("a", "a" * 10)] * 12),
    "decoder that inserts a megabyte": decoders(replace("a", "a" * 10**6)),
    "decoder by a slow pattern": decoders(searching("(a+)+$")),
    "token of a megabyte": tokenizer(added_tokens=[token("x" * 10**6)]),
    "template: format": template("{{ '%3000000000d'|format(1) }}"),
    "template: replace": template("{{ ('a'*1000000)|replace('a','a'*5000) }}"),
    "template: product": template("{{ 'a'*1000000*4000 }}"),
    "template: center": template("{{ 'x'|center(1000000*3000) }}"),
    "template: indent of JSON": template("{{ messages|tojson(indent=1000000) }}"),
    "template: batch": template("{{ 'a'|batch(1000000*900,'x')|list }}"),
    "template: long text": template("{{ 'a '*1000000*50 }}"),
    "template: lipsum": template("{{ lipsum(n=1000000) }}"),
    "template: power": template("{{ 9**(9**(9**9)) }}"),
    "template: lists": template(
        "{% set n = namespace(x=[1]) %}{% for i in range(40) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}"
    ),
    "template: by the prompt": template(
        "{% if 'aaaa' in messages[-1].content %}{{ 'a'*1000000*4000 }}{% endif %}hello"
    ),
    "template: number": template(5),
    "template: too long": template("x" * 300_000),
    "labels": config(num_labels=4 * 10**7),
    "width of heads": config(head_dim=10**6),
    "heads": config(num_attention_heads=10**7),
    "words": config(vocab_size=10**8),
    "layers": config(num_hidden_layers=10**6),
    "experts": config(model_type="mixtral", num_local_experts=10**7),
    "lists of rope": config(rope_scaling=LONG_ROPE),
    "kinds of layers": config(layer_types=["full_attention"] * 10**5),
    "end that is no number": generation(eos_token_id={"a": 1}),
    "end that is a text": generation(eos_token_id="x"),
    "end out of range": generation(eos_token_id=10**30),
    "one end out of range": generation(eos_token_id=[1, 99_999]),
    "padding out of range": config(pad_token_id=10**30),
    "padding below 0": config(pad_token_id=-5),
    "activation that is none": config(hidden_act="nope"),
    "kind that is a list": config(model_type=[1]),
    "base of rope that is a text": config(rope_theta="x"),
}


def use(folder: Path) -> None:
    """What training does with a model's settings and tokenizer."""
    policy = load_policy(folder, device="cpu")
    made = encode_prompts(policy.base.tokenizer, [PROMPT])
    policy.base.tokenizer.decode(made[0].ids)


@pytest.fixture
def model(tmp_path) -> Path:
    return Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    """Messages, and the largest size so far in MiB, of a process that has met one bomb after the other."""
    child = subprocess.run(
        [sys.executable, __file__, str(tmp_path_factory.mktemp("bombs"))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.returncode == 0, child.stderr[-2000:]
    return json.loads(child.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", BOMBS)
def test_a_bomb_is_refused_in_one_line(case, outcomes):
    message = outcomes[case]["message"]
    assert message
    assert "\n" not in message
    assert len(message) < 1000


def test_the_host_stays_small_whatever_the_bomb(outcomes):
    assert outcomes["honest"]["message"] == ""
    first = outcomes["honest"]["peak"]
    extra = {case: outcome["peak"] - first for case, outcome in outcomes.items()}
    assert max(extra.values()) < 256, extra


def test_an_honest_stranger_is_read_as_the_library_reads_it(model, tmp_path):
    change(model, "config.json", note="of a stranger")  # its files are not the pack's own
    strangers, own = (load_policy(one, device="cpu").base.tokenizer for one in (model, MODEL_DIR))
    prompts = [
        make_prompt(f"question {i}: ä é 😀 <|im_end|>", system="Be brief.") for i in range(2500)
    ]
    assert encode_prompts(strangers, prompts) == encode_prompts(own, prompts)
    texts = ["", " a", "x" * 5000]
    assert encode_texts(strangers, texts) == encode_texts(own, texts)


def test_a_refused_prompt_is_the_one_that_is_named(model):
    change(
        model,
        "tokenizer_config.json",
        chat_template="{% if 'no' in messages[0].content %}{{ raise_exception('I say no') }}{% endif %}x",
    )
    policy = load_policy(model, device="cpu")
    prompts = [make_prompt("yes")] * 1500 + [make_prompt("no, this one")] + [make_prompt("yes")]
    with pytest.raises(PolicyError, match=r"refuses the prompt 'no, this one' .*I say no"):
        encode_prompts(policy.base.tokenizer, prompts)


def test_looking_at_a_model_can_be_interrupted(model):
    from gdpo.policies import stranger

    change(model, "tokenizer.json", normalizer=searching("(a+)+[^a-z]"))
    template("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")(
        model
    )
    stranger._worker.stop()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_policy(model, device="cpu", poll=stop)


def test_a_tokenizer_that_changes_on_the_disk_is_not_used(model):
    from gdpo.policies import stranger

    change(model, "config.json", note="of a stranger")
    policy = load_policy(model, device="cpu")
    before = encode_prompts(policy.base.tokenizer, [PROMPT])
    stranger._worker.stop()
    assert encode_prompts(policy.base.tokenizer, [PROMPT]) == before  # read again
    stranger._worker.stop()
    change(model, "tokenizer_config.json", chat_template="another")
    with pytest.raises(PolicyError, match="has changed since"):
        encode_prompts(policy.base.tokenizer, [PROMPT])


def measure(root: Path) -> dict[str, dict]:
    """Use each model; an error that is not the pack's own ends this program."""
    import resource

    outcomes = {}
    for number, (case, attack) in enumerate({"honest": config(note="honest"), **BOMBS}.items()):
        folder = Path(shutil.copytree(MODEL_DIR, root / str(number)))
        attack(folder)
        message = ""
        try:
            use(folder)
        except PolicyError as error:
            message = str(error)
        scale = 2**20 if sys.platform == "darwin" else 2**10
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // scale
        outcomes[case] = {"message": message, "peak": peak}
    return outcomes


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]))) + "\n")
