"""The memory estimate against real tensors, and the mildest remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import make_model
from memory_estimates import FACTS, SETTINGS, told
from random_models import WRITTEN_OUT, random_model

from gdpo.errors import PolicyError
from gdpo.memory import MemoryEstimate, config_weight_bytes, estimate, find_remedy
from gdpo.memory.trace import tracing
from gdpo.memory.traced_passes import _trace_choice
from gdpo.policies.configuration import read_config
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import trainable
from gdpo.rollouts import choose_token
from gdpo.rollouts.llama_step.products import joined
from gdpo.rollouts.llama_step.read_layout import OtherShapeError, read_layout


def test_weights_adapter_and_optimiser_are_those_of_the_real_model(tiny_folder):
    policy = load_policy(tiny_folder, precision="fp32", device="cpu")
    real = sum(p.numel() * 4 for p in policy.base.model.parameters())
    buffers = sum(b.numel() * b.element_size() for b in policy.base.model.buffers())
    with trainable(policy, rank=4, alpha=8, seed=0) as model:
        adapter = sum(p.numel() * 4 for p in model.parameters() if p.requires_grad)
    parts = told(tiny_folder).parts
    assert parts["weights"] == real + buffers
    assert parts["adapter"] == adapter
    assert parts["optimiser"] == 2 * adapter
    assert adapter <= parts["gradients"] < 2 * adapter  # the combined one, and sketches


def test_quantised_weights_are_those_of_bitsandbytes(tiny_folder):
    pytest.importorskip("bitsandbytes")
    for precision in ("int8", "nf4"):
        model = load_policy(tiny_folder, precision=precision, device="cpu").base.model
        tensors = [*model.parameters(), *model.buffers()]
        for module in model.modules():
            state = getattr(getattr(module, "weight", None), "quant_state", None)
            tensors += [state.absmax] if state is not None else []
            scales = getattr(getattr(module, "weight", None), "SCB", None)
            tensors += [scales] if scales is not None else []
        real = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        assert told(tiny_folder, precision=precision).parts["weights"] == pytest.approx(
            real, rel=0.01
        )


def test_cache_is_two_vectors_for_each_token_head_and_layer(tiny_folder):
    # (K, V) x 2 heads x 16 numbers x 4 bytes a token and layer: of 2 prompts of 20 tokens in 2 layers, and of 8
    # completions of 12 tokens, of which one layer is there twice while it grows.
    token = 2 * 2 * 16 * 4
    assert told(tiny_folder).parts["cache"] == token * (2 * 2 * 20 + 3 * 8 * 12)


def test_a_model_of_another_shape_has_its_prompts_in_the_cache_for_each_completion(
    tiny_folder, monkeypatch
):
    def refuse(model):
        raise OtherShapeError("other")

    monkeypatch.setattr("gdpo.memory.traced_passes.read_layout", refuse)
    assert told(tiny_folder).parts["cache"] == 2 * 2 * 16 * 4 * 3 * 8 * (20 + 12)


def test_the_shape_of_a_model_is_told_without_its_weights():
    for name in WRITTEN_OUT:
        read_layout(random_model(name).to("meta"))
    with pytest.raises(OtherShapeError):
        read_layout(random_model("mixtral").to("meta"))


def test_sampling_in_fp32_merges_all_adapted_weights_and_packs_all_linear_ones(tiny_folder):
    model = load_policy(tiny_folder, precision="fp32", device="cpu").base.model
    linear = [m.weight.nbytes for m in model.modules() if isinstance(m, torch.nn.Linear)]
    head = model.get_output_embeddings().weight.nbytes
    parts = told(tiny_folder).parts
    assert parts["sampling's copies"] == 2 * sum(linear) - head  # the head carries no adapter
    assert told(tiny_folder, precision="bf16").parts["sampling's copies"] == 0


def test_a_layer_that_is_packed_alone_is_not_copied_before(monkeypatch):
    """The head of a large vocabulary may be the largest tensor of all."""
    layers = [torch.nn.Linear(8, 40, bias=bias).requires_grad_(False) for bias in (True, False)]
    x = torch.randn(3, 8)
    wanted = [layer(x) for layer in layers]
    copied = []
    cat = torch.cat
    monkeypatch.setattr(torch, "cat", lambda parts: (copied.append(parts[0].shape), cat(parts))[1])
    for layer, outputs in zip(layers, wanted, strict=True):
        torch.testing.assert_close(joined([layer], fuse=True)(x), outputs)
    assert torch.Size([40, 8]) not in copied


@pytest.mark.parametrize(("dtype", "copies"), [(torch.float32, 2 * 4), (torch.bfloat16, 2 + 2 * 4)])
def test_a_choice_holds_logits_and_probabilities_of_all_rows(dtype, copies):
    """In fp32, and the logits in the model's own type beside; a larger vocabulary adds its blocks' sums only."""
    for vocabulary in (1000, 2**17):
        found = _trace_choice(dtype, vocabulary, 1.0, rows=6)
        sums = 2 * 4 if vocabulary < choose_token._LARGE else 0  # the cumulative one, and its clamp
        assert found >= 6 * vocabulary * copies
        assert found <= 6 * (vocabulary * (copies + sums) + 40 * choose_token._BLOCK)


def test_an_evaluation_samples_one_completion_of_up_to_64_prompts(tiny_folder):
    token = 2 * 2 * 16 * 4  # as above, of 40 prompts in 2 layers and of their completions
    few = told(tiny_folder, heldout=40)
    cache = token * (2 * 40 * 20 + 3 * 40 * 12)
    choice = 40 * read_config(tiny_folder).vocab_size * 2 * 4
    assert few.parts["evaluation"] >= cache + choice
    assert "evaluation" in few.phases
    many = [told(tiny_folder, heldout=count).parts["evaluation"] for count in (64, 65, 1000)]
    assert few.parts["evaluation"] < many[0] == many[1] == many[2]
    assert "evaluation" not in told(tiny_folder).phases


def test_a_tokenizer_counts_by_its_tokens_and_is_there_once_the_model_is_loaded(tiny_folder):
    without = told(tiny_folder)
    found = told(tiny_folder, tokens=262_144)
    assert found.parts["tokenizer"] == 256 * 2**20  # 1 kB each
    assert {name: size - without.phases[name] for name, size in found.phases.items()} == (
        dict.fromkeys(found.phases, 256 * 2**20)
    )
    loaded = told(tiny_folder, tokens=262_144, loaded=True)
    assert loaded.missing == told(tiny_folder, loaded=True).missing


def test_prompts_too_short_to_be_shared_are_tried_where_they_can_come(tiny_folder):
    """Of 12 new tokens and groups of 4, prompts of 32 tokens and more are shared: those of 31 take the most."""
    shared = told(tiny_folder, prompt_tokens=60).parts["activations"]
    mixed = told(tiny_folder, prompt_tokens=60, shortest_prompt=5).parts["activations"]
    assert mixed == told(tiny_folder, prompt_tokens=31).parts["activations"] > shared
    assert shared == told(tiny_folder, prompt_tokens=60, shortest_prompt=32).parts["activations"]
    assert told(tiny_folder, shortest_prompt=5).parts == told(tiny_folder).parts


def test_half_the_precision_is_half_the_weights(tiny_folder):
    whole, half = (told(tiny_folder, precision=p).parts["weights"] for p in ("fp32", "bf16"))
    assert half == pytest.approx(whole / 2, rel=0.01)


def test_activations_grow_with_the_micro_batch_and_shrink_with_checkpointing(tmp_path):
    folder = make_model(tmp_path, num_hidden_layers=6)
    full = told(folder).parts["activations"]
    small = told(folder, replace(SETTINGS, micro_batch=2)).parts["activations"]
    again = told(folder, replace(SETTINGS, gradient_checkpointing=True)).parts["activations"]
    assert small < 0.4 * full
    assert again < 0.5 * full


def test_activations_do_not_grow_with_the_number_of_completions_or_rewards(tiny_folder):
    few = told(tiny_folder).phases["update"]
    many = told(tiny_folder, replace(SETTINGS, prompts_per_step=64), rewards=8).phases["update"]
    assert many < 1.1 * few


def test_the_trace_counts_what_lives_at_once():
    # 100 floats twice and their sum: 1200 bytes; then the sum and its double.
    with tracing(torch.nn.Identity(), vocabulary=7) as trace:
        first = torch.ones(100, device="meta")
        second = torch.ones(100, device="meta")
        total = first + second
        del first, second
        doubled = total * 2
        logits = torch.ones(3, 7, device="meta")
        assert trace.live == {"logits": 84, "others": 800}
        del total, doubled, logits
    assert sum(trace.peak.values()) == 1200
    assert trace.live == {"logits": 0, "others": 0}


@pytest.mark.parametrize("prompt_tokens", [12, 40])  # too short to be shared, and shared
def test_the_trace_of_a_real_update_is_that_of_its_real_tensors(tiny_folder, prompt_tokens):
    """The same pass on the CPU, whose saved tensors are counted by autograd's own hooks."""
    from gdpo.memory.traced_passes import _longest
    from gdpo.update.passes import _scored, plan_update

    policy = load_policy(tiny_folder, precision="fp32", device="cpu")
    settings = replace(SETTINGS, micro_batch=4, prompts_per_step=1)
    rollouts = _longest(1, prompt_tokens, 12, group=4)
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with trainable(policy, rank=4, alpha=8, seed=0) as model:
        batches = plan_update(model, rollouts, settings)
        assert (batches[0].owners is not None) == (prompt_tokens == 40)
        own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            scores = list(_scored(model, rollouts, batches, 1.0, torch.ones(4)))
        del scores
    real = sum(size for place, size in saved.items() if place not in own)
    parts = told(tiny_folder, settings, prompt_tokens=prompt_tokens).parts
    # The peak is in the backward pass: what was saved, and gradients and temporaries of one layer beside it.
    assert real < parts["activations"] + parts["logits"] < 1.6 * real


def test_shared_prompts_need_less_memory_than_plain_ones(tiny_folder, monkeypatch):
    settings = replace(SETTINGS, group_size=8, micro_batch=4)
    shared = told(tiny_folder, settings, prompt_tokens=100).parts
    monkeypatch.setattr("gdpo.update.micro_batches._SHORTEST_PROMPT", 1000)
    plain = told(tiny_folder, settings, prompt_tokens=100).parts
    assert shared["activations"] < 0.8 * plain["activations"]
    assert shared["gradients"] == plain["gradients"]


def test_the_total_is_the_largest_phase_and_loaded_weights_are_not_asked_for_again():
    parts = {"weights": 60, "activations": 30}
    known = MemoryEstimate(parts, {"sampling": 70, "update": 90}, "cpu", free=40, capacity=200)
    assert known.total == 90
    assert not known.fits
    assert replace(known, loaded=True).missing == 30
    assert replace(known, loaded=True).fits


def test_the_remedy_is_the_mildest_change_that_fits(tiny_folder, monkeypatch):
    config = read_config(tiny_folder)
    needed = told(tiny_folder, replace(SETTINGS, micro_batch=2)).total
    monkeypatch.setattr("gdpo.memory.estimation.free_memory", lambda _device: (needed, 2 * needed))
    assert not told(tiny_folder).fits
    words, smaller = find_remedy(config, SETTINGS, **FACTS)
    assert words == "micro_batch 2"
    assert smaller.total == needed
    monkeypatch.setattr("gdpo.memory.estimation.free_memory", lambda _device: (1, 2))
    assert find_remedy(config, SETTINGS, **FACTS) is None


def test_an_architecture_that_takes_no_adapter_is_refused_in_one_line(tiny_folder):
    config = read_config(tiny_folder)
    with pytest.raises(PolicyError, match=r"cannot be told in advance \(TypeError.*first steps\.$"):
        estimate(config, SETTINGS, **{**FACTS, "prompt_tokens": "many"})


def test_auto_is_resolved_before_weighing(tiny_folder):
    weights, precision, device = config_weight_bytes(read_config(tiny_folder), "fp32", "cpu")
    assert (precision, device) == ("fp32", "cpu")
    assert weights == told(tiny_folder).parts["weights"]


def test_scores_are_a_gradient_for_each_completion(tiny_folder):
    """In the type that the model computes in; of an optimiser that needs none, none."""
    natural = replace(SETTINGS, optimizer="natural")
    parts = told(tiny_folder, natural).parts
    # 2 prompts of 4 completions, one of which may be sampled again.
    assert parts["scores"] == (2 + 1) * 4 * parts["adapter"]
    assert parts["optimiser"] == 3 * parts["adapter"]  # squares, direction and average
    assert told(tiny_folder, natural, precision="bf16").parts["scores"] == parts["scores"] / 2
    plain = told(tiny_folder).parts
    assert (plain["scores"], plain["natural step"]) == (0, 0)


def test_scores_that_do_not_fit_a_card_are_counted_in_main_memory(tiny_folder, monkeypatch):
    natural = replace(SETTINGS, optimizer="natural", prompts_per_step=64)
    monkeypatch.setattr("gdpo.memory.estimation.resolve_device", lambda device: device)
    room = {"large": 2**40, "small": 1}
    parts = {}
    for size, free in room.items():
        monkeypatch.setattr("gdpo.memory.estimation.free_memory", lambda _, free=free: (free, free))
        parts[size] = told(tiny_folder, natural, precision="fp32", device="cuda").parts["scores"]
    assert parts["large"] == (64 + 32) * 4 * told(tiny_folder, natural).parts["adapter"]
    assert parts["small"] == 0


def test_an_estimate_can_be_stopped_in_each_of_its_passes(tiny_folder):
    class Stop(Exception):
        pass

    calls: list[None] = []
    told(tiny_folder, heldout=2, poll=lambda: calls.append(None))
    for number in range(len(calls)):
        left = iter(range(number))

        def poll(left=left) -> None:
            if next(left, None) is None:
                raise Stop

        with pytest.raises(Stop):
            told(tiny_folder, heldout=2, poll=poll)
    assert len(calls) > 8  # before each layer, forward and backward, and in sampling and evaluation
