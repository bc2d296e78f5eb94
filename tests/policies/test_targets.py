"""An adapter holds matrices that are trained; those of the model that it leaves out are named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers
from conftest import make_tokenizer
from random_models import adapted, architectures, experts_and_others, random_model, recurrent_model
from small_training import PROMPTS, SETTINGS, objective

from gdpo.errors import GDPOError, PolicyError, TrainingError
from gdpo.policies.adapter import fresh_config, load_adapter, read_adapter, unwrap, wrap
from gdpo.policies.base import Base
from gdpo.policies.compat import without_renaming_warning
from gdpo.policies.policy import Policy, attached
from gdpo.policies.targets import find_targets, left_as_it_is
from gdpo.progress import Progress
from gdpo.training.trainer import train

MODELS = experts_and_others()
EXPERTS = {"Mixtral", "Qwen2Moe", "Qwen3Moe", "Olmoe", "GraniteMoe", "GptOss"}
LATENT = {"DeepseekV2", "DeepseekV3"}


class Notices(Progress):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


def made(name):
    torch.manual_seed(0)
    module = MODELS[name]().eval()
    module.name_or_path = name
    return module.requires_grad_(False)


def policy_of(module) -> Policy:
    return Policy(Base(module, make_tokenizer(), "random", "fp32", "cpu", "digest"))


def layers_of(model) -> set[str]:
    """Kinds of matrices in the layers, without their numbers."""
    head = model.get_output_embeddings()
    outside = {
        id(p) for m in model.modules() if isinstance(m, torch.nn.Embedding) for p in m.parameters()
    }
    outside.add(id(head.weight))
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and id(parameter) not in outside
    }


@pytest.mark.parametrize("name", MODELS)
def test_every_matrix_of_the_adapter_moves_and_every_other_is_named(name, tmp_path):
    module, notices = made(name), Notices()
    kinds = layers_of(module)
    settings = replace(SETTINGS, steps=2, eval_every=2)
    result = train(
        policy_of(module), PROMPTS, objective(), settings, tmp_path / "run", progress=notices
    )
    state = result.policy.adapter.state
    still = [key for key, tensor in state.items() if "lora_B" in key and not tensor.any()]
    assert not still
    covered = {
        key.removeprefix("base_model.model.").removesuffix(".lora_B.weight") + ".weight"
        for key in state
        if "lora_B" in key
    }
    left = kinds - covered
    assert bool(left) == (name in EXPERTS | LATENT)
    text = " ".join(notices.texts)
    assert ("Left as they are" in text) == bool(left)
    for kind in {".".join(one.split(".")[3:6]) for one in left if "shared" not in one}:
        assert kind.split(".")[0] in text


@pytest.mark.skipif("GPT2" not in MODELS, reason="this version's GPT-2 cannot be trained")
def test_an_adapter_on_transposed_layers_can_be_read_again(tmp_path):
    result = train(
        policy_of(made("GPT2")), PROMPTS, objective(), replace(SETTINGS, steps=1), tmp_path / "run"
    )
    again = load_adapter(result.folder / "adapter")
    assert again.config["fan_in_fan_out"] is True
    with attached(Policy(result.policy.base, again)) as model:
        found = read_adapter(model).state
    for key, tensor in result.policy.adapter.state.items():
        assert torch.equal(found[key], tensor)


@pytest.mark.parametrize("name", [name for name in architectures() if name != "mixtral"])
def test_a_model_without_experts_is_covered_as_peft_covers_it(name):
    if name == "qwen3" and not hasattr(transformers, "Qwen3Config"):
        pytest.skip("this version of transformers knows no such model")
    from peft import LoraConfig, get_peft_model

    ours = adapted(random_model(name))
    assert left_as_it_is(ours) is None
    with without_renaming_warning():
        theirs = get_peft_model(random_model(name), LoraConfig(r=4, target_modules="all-linear"))
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


@pytest.mark.parametrize("name", [name for name in MODELS if name in EXPERTS | LATENT])
def test_experts_and_their_router_get_no_adapter(name):
    shell = wrap(made(name), fresh_config(4, 8))
    adapted_parts = [part for part, m in shell.named_modules() if getattr(m, "lora_A", None)]
    assert adapted_parts
    assert all(".self_attn." in part or ".mlp." in part for part in adapted_parts)
    assert not any(
        ".experts" in part or part.endswith((".gate", ".router")) for part in adapted_parts
    )


def test_parts_that_no_token_passes_get_no_adapter():
    """Such as the tower for images of a model that is given text alone."""
    module = random_model("llama")
    module.tower = torch.nn.Linear(32, 32, bias=False).requires_grad_(False)
    assert "tower" not in find_targets(module)
    assert "tower.weight" in left_as_it_is(wrap(module, fresh_config(4, 8)))


def test_a_model_without_such_layers_takes_no_adapter():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=320, num_hidden_layers=0, **sizes)
    module = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    with pytest.raises(PolicyError, match="no linear layer"):
        wrap(module, fresh_config(4, 8))


def test_a_hybrid_model_keeps_its_linear_attention():
    names = find_targets(recurrent_model("qwen3-next").requires_grad_(False))
    assert any("linear_attn.in_proj" in name for name in names)
    assert any("self_attn.q_proj" in name for name in names)
    assert not any(".mlp." in name for name in names)


def test_an_adapter_on_part_of_the_layers_is_told():
    shell = wrap(random_model("llama"), fresh_config(4, 8) | {"target_modules": ["q_proj"]})
    text = left_as_it_is(shell)
    # Of 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64 = 9216 weights in a layer.
    assert "11%" in text
    assert "model.layers.*.mlp.gate_proj.weight" in text


def test_a_matrix_that_takes_no_part_in_the_pass_is_an_error(tmp_path):
    """As with an adapter that peft put on bare parameters, where it multiplies the matrices by itself."""
    module = random_model("llama")
    module.tower = torch.nn.Linear(32, 32, bias=False).requires_grad_(False)
    config = fresh_config(4, 8) | {"target_modules": ["q_proj", "tower"]}
    shell = wrap(module, config)
    adapter = read_adapter(shell)
    unwrap(shell)
    policy = Policy(policy_of(module).base, adapter)
    with pytest.raises(TrainingError, match=r"2 of the adapter's 6 matrices.*tower\.lora_A"):
        train(policy, PROMPTS, objective(), SETTINGS, tmp_path / "run")


def sparse_model():
    """A tiny model whose attention chooses its tokens by an indexer, which no gradient reaches."""
    if not hasattr(transformers, "DeepseekV32Config"):
        pytest.skip(f"transformers {transformers.__version__} knows no such model")
    sizes = {"index_n_heads": 2, "index_head_dim": 16, "index_topk": 4}
    latent = dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim"), 8)
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    config = transformers.DeepseekV32Config(
        vocab_size=len(make_tokenizer()),
        hidden_size=32,
        intermediate_size=64,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        qk_rope_head_dim=8,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
        **sizes,
        **latent,
        **experts,
    )
    torch.manual_seed(0)
    module = transformers.DeepseekV32ForCausalLM(config).eval()
    module.name_or_path = "sparse"
    return module.requires_grad_(False)


def test_layers_that_only_choose_tokens_get_no_adapter():
    found = find_targets(sparse_model())
    assert found
    assert not [name for name in found if "indexer" in name]


def bert():
    """A model whose output head is more than one matrix: the update's pass goes past the rest of it."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = transformers.BertConfig(
        vocab_size=len(make_tokenizer()), num_hidden_layers=1, is_decoder=True, **sizes
    )
    torch.manual_seed(0)
    module = transformers.BertLMHeadModel(config).eval().requires_grad_(False)
    module.name_or_path = "bert"
    return module


def without_cache():
    """A model whose cached pass is broken, as those of some hybrid families are."""
    module = random_model("olmo2")
    inner = module.forward

    def forward(*args, past_key_values=None, **options):
        if past_key_values is not None:
            raise ValueError("`get_seq_length` can only be called on attention layers")
        return inner(*args, **options)

    module.forward = forward
    return module


def without_pass():
    """A model that cannot be passed at all, as with a configuration that does not fit."""
    module = random_model("llama")

    def forward(**_options):
        raise RuntimeError("The size of tensor a (4) must match the size of tensor b (8)")

    module.forward = forward
    return module


@pytest.mark.parametrize(
    ("make", "family"), [(bert, "bert"), (without_cache, "olmo2"), (without_pass, "llama")]
)
def test_a_family_that_cannot_be_trained_is_named_before_the_first_step(make, family, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(GDPOError, match=f"model.*{family}|{family}.*model"):
        train(policy_of(make()), PROMPTS, objective(), SETTINGS, folder)
    assert not (folder / "history.jsonl").exists()
