from __future__ import annotations

import json
import logging
import shutil
import warnings

import pytest
import torch
from conftest import make_model, need_quantised_cpu
from rounding import same_scores

from gdpo.errors import PolicyError
from gdpo.policies.adapter import load_adapter, read_adapter, save_adapter
from gdpo.policies.chat import encode_prompt, render_prompt
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import Policy, attached, trainable
from gdpo.prompts import Prompt
from gdpo.rollouts import sample
from gdpo.update.logprobs import score_tokens

PROMPT = Prompt((("system", "be kind"), ("user", "the printer")), {})


def logits(model):
    with torch.no_grad():
        return model(torch.arange(10)[None]).logits


def tuned(policy: Policy, scale: float = 0.3) -> Policy:
    """A policy with a random adapter."""
    with trainable(policy, rank=4, alpha=8, seed=0) as model:
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data = scale * torch.randn(parameter.shape, generator=generator)
        return Policy(policy.base, read_adapter(model))


def test_a_fresh_adapter_is_the_identity_and_depends_on_its_seed_alone(tiny_policy):
    plain, states = logits(tiny_policy.base.model), []
    for noise, seed in enumerate((0, 0, 1)):
        torch.manual_seed(100 + noise)
        with trainable(tiny_policy, rank=4, alpha=8, seed=seed) as model:
            assert torch.equal(logits(model), plain)  # B is zero
            states.append(read_adapter(model).state)
    key = next(name for name in states[0] if "lora_A" in name)
    assert torch.equal(states[0][key], states[1][key])
    assert not torch.equal(states[0][key], states[2][key])


def test_an_adapter_comes_off_again_even_after_an_error(tiny_policy):
    model = tiny_policy.base.model
    plain, names = logits(model), [name for name, _ in model.named_parameters()]
    policy = tuned(tiny_policy)

    def use_and_fail() -> None:
        with attached(policy) as on:
            assert not torch.allclose(logits(on), plain, atol=1e-3)
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        use_and_fail()
    assert torch.equal(logits(model), plain)
    assert [name for name, _ in model.named_parameters()] == names
    assert not any(p.requires_grad for p in model.parameters())


def test_two_policies_on_one_base_are_told_apart(tiny_policy):
    one, other = tuned(tiny_policy), tuned(tiny_policy, scale=0.6)
    outputs = []
    for policy in (one, other, tiny_policy, one):
        with attached(policy) as model:
            outputs.append(logits(model))
    assert torch.equal(outputs[0], outputs[3])
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-3)


def test_an_adapter_survives_the_disk_and_is_a_standard_one(tiny_policy, tiny_folder, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    policy = tuned(tiny_policy)
    save_adapter(policy.adapter, tmp_path / "adapter")
    with attached(Policy(tiny_policy.base, load_adapter(tmp_path / "adapter"))) as model:
        ours = logits(model)
    with attached(policy) as model:
        assert torch.equal(logits(model), ours)
    with warnings.catch_warnings():  # peft reads a name that transformers 5 has renamed
        warnings.simplefilter("ignore", FutureWarning)
        other = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(tiny_folder), tmp_path / "adapter"
        )
    same_scores(logits(other), ours, other)


def test_an_adapter_of_another_model_is_refused(tiny_policy, tmp_path):
    wide = load_policy(make_model(tmp_path / "deep", num_hidden_layers=3), device="cpu")
    with (
        pytest.raises(PolicyError, match="does not fit this model"),
        attached(Policy(tiny_policy.base, tuned(wide).adapter)),
    ):
        pass


def test_prompts_go_through_the_chat_template_with_their_roles(tiny_policy):
    tokenizer = tiny_policy.base.tokenizer
    expected = "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nthe printer<|im_end|>\n<|im_start|>assistant\n"
    assert render_prompt(tokenizer, PROMPT) == expected
    assert tokenizer.decode(encode_prompt(tokenizer, PROMPT)) == expected


def test_a_missing_chat_template_is_named_and_prompts_stay_plain(tiny_folder, tmp_path, caplog):
    folder = shutil.copytree(tiny_folder, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with caplog.at_level(logging.WARNING):
        policy = load_policy(folder, device="cpu")
    assert "no chat template" in caplog.text
    assert render_prompt(policy.base.tokenizer, PROMPT) == "be kind\n\nthe printer"


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8", "nf4"])
def test_other_precisions_load_sample_and_train_on_a_cpu(tiny_folder, tmp_path, precision):
    from small_training import PROMPTS, SETTINGS, objective

    from gdpo.runs.history import read_history
    from gdpo.training.trainer import train

    if precision in {"int8", "nf4"}:
        need_quantised_cpu()
    policy = load_policy(tiny_folder, precision=precision, device="cpu")
    assert policy.base.precision == precision
    sample(policy.base.model, policy.base.tokenizer, [PROMPT], max_new_tokens=4, seed=0)
    from dataclasses import replace

    result = train(policy, PROMPTS, objective(), replace(SETTINGS, steps=2), tmp_path / "run")
    assert all(t.dtype == torch.float32 for t in result.policy.adapter.state.values())
    assert read_history(tmp_path / "run")[-1]["grad_norm"] > 0


def test_gradients_through_a_4_bit_base_are_right_after_sampling(tiny_folder):
    """They equal those of an fp32 model with the same (dequantised) weights, up to bf16's rounding there."""
    bitsandbytes = need_quantised_cpu()
    quantised = load_policy(tiny_folder, precision="nf4", device="cpu")
    plain = load_policy(tiny_folder, precision="fp32", device="cpu")
    layers = dict(quantised.base.model.named_modules())
    for name, module in plain.base.model.named_modules():
        if isinstance(layers[name], bitsandbytes.nn.Linear4bit):
            weight = layers[name].weight
            module.weight.data = bitsandbytes.functional.dequantize_4bit(
                weight.data, weight.quant_state
            ).float()
    gradients = []
    for policy in (quantised, plain):
        with trainable(policy, rank=4, alpha=8, seed=0) as model:
            generator = torch.Generator().manual_seed(1)
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
            drawn = sample(
                model, policy.base.tokenizer, [PROMPT], group_size=4, max_new_tokens=8, seed=0
            )
            rollouts = drawn if policy is quantised else rollouts  # noqa: F821  the same completions for both
            total = score_tokens(model, rollouts, torch.arange(4), 1.0).logprobs.sum()
            trained = [p for p in model.parameters() if p.requires_grad]
            gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(total, trained)]))
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 0.03


def damage(folder, case: str) -> None:
    if case == "no config":
        (folder / "config.json").unlink()
    elif case == "pickles only":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif case == "torn weights":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif case == "no tokenizer":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    elif case == "remote code":
        config = json.loads((folder / "config.json").read_text())
        config |= {
            "model_type": "mine",
            "auto_map": {"AutoModelForCausalLM": "mine.Model", "AutoConfig": "mine.Config"},
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "mine.py").write_text("raise SystemExit('ran foreign code')")
    elif case == "no end token":
        config = json.loads((folder / "tokenizer_config.json").read_text())
        config.pop("eos_token")
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        (folder / "special_tokens_map.json").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no config", "no config.json"),
        ("pickles only", "no \\*.safetensors"),
        ("torn weights", "The model of"),
        ("no tokenizer", "The tokenizer of"),
        ("remote code", "names code"),
        ("no end token", "end-of-sequence"),
    ],
)
def test_an_unusable_folder_is_refused_in_one_line(tiny_folder, tmp_path, case, message):
    folder = shutil.copytree(tiny_folder, tmp_path / "damaged")
    damage(folder, case)
    with pytest.raises(PolicyError, match=message) as caught:
        load_policy(folder, device="cpu")
    assert "\n" not in str(caught.value)
    assert "damaged" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "/nowhere/at/all"}, "no model folder"),
        ({"model": "nobody/nothing"}, "downloads are switched off"),
        ({"precision": "int3"}, "Found 'int3'"),
        ({"device": "tpu"}, "Found 'tpu'"),
    ],
)
def test_unusable_arguments_are_refused_in_one_line(tiny_folder, arguments, message):
    with pytest.raises(PolicyError, match=message) as caught:
        load_policy(**{"model": tiny_folder, "device": "cpu", **arguments})
    assert "\n" not in str(caught.value)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    folder = make_model(tmp_path / "small", vocab_size=100)
    with pytest.raises(PolicyError, match="320 tokens but the model only 100"):
        load_policy(folder, device="cpu")
