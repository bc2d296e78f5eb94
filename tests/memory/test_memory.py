"""The memory estimate against real tensors, and what a training does when memory runs out."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_model
from loaded_pack import submodule
from random_models import WRITTEN_OUT, random_model

from benchmarks.memory import __main__ as benchmark
from benchmarks.memory.cells import Cell
from gdpo.allocator import heap_share, returning_freed_memory
from gdpo.errors import PolicyError, TrainingError
from gdpo.memory import MemoryEstimate, config_weight_bytes, estimate, find_remedy, read_config
from gdpo.memory.retreat import Retreat
from gdpo.memory.trace import tracing
from gdpo.objective.objective import combine_rewards
from gdpo.out_of_memory import is_out_of_memory
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import trainable
from gdpo.prompts import Prompt
from gdpo.rewards import SCORERS, Reward
from gdpo.rollouts.llama_step.read_layout import OtherShapeError, read_layout
from gdpo.runs.history import read_history
from gdpo.settings import TrainSettings
from gdpo.training.trainer import train

SETTINGS = TrainSettings(
    steps=2,
    prompts_per_step=2,
    group_size=4,
    max_new_tokens=12,
    micro_batch=8,
    lora_rank=4,
    eval_every=1000,
    checkpoint_every=1000,
)
PROMPTS = [Prompt((("user", f"the printer does not print {i}"),), {}) for i in range(4)]
FACTS = {"rewards": 2, "precision": "fp32", "device": "cpu", "prompt_tokens": 20}


def told(folder: Path, settings: TrainSettings = SETTINGS, **changes) -> MemoryEstimate:
    return estimate(read_config(folder), settings, **{**FACTS, **changes})


def objective():
    rewards = [Reward("short", SCORERS["Conciseness"]()), Reward("kind", SCORERS["Politeness"]())]
    return combine_rewards(rewards)


# --- what is told ------------------------------------------------------------------------------------


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


def test_sampling_in_fp32_packs_copies_of_all_linear_weights_the_head_last(tiny_folder):
    model = load_policy(tiny_folder, precision="fp32", device="cpu").base.model
    linear = [m.weight.nbytes for m in model.modules() if isinstance(m, torch.nn.Linear)]
    head = model.get_output_embeddings().weight.nbytes
    parts = told(tiny_folder).parts
    assert parts["sampling's copies"] == 2 * sum(linear) - head  # the head carries no adapter
    assert parts["packing for sampling"] == head
    assert told(tiny_folder, precision="bf16").parts["sampling's copies"] == 0


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


# --- when memory runs out ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            ),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (KeyError("memory"), False),
    ],
)
def test_failed_allocations_are_told_from_other_errors(error, is_memory):
    assert is_out_of_memory(error) == is_memory


def test_a_real_failed_allocation_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**56)
    assert is_out_of_memory(caught.value)


def test_other_errors_pass_unchanged():
    def broken(_settings: TrainSettings) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        Retreat(SETTINGS, "cpu").run(broken, lambda _settings: "")


def limited(policy, most: int):
    """A hook that makes the update of more than `most` completions at a time run out of memory, on the way back."""

    def fail(_gradient: torch.Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    def watch(_module, _args, output):
        if output.requires_grad and len(output) > most:
            output.register_hook(fail)

    return policy.base.model.get_input_embeddings(), policy.base.model.model.norm, watch


def run(folder: Path, model: Path, most: int | None, settings: TrainSettings = SETTINGS):
    policy = load_policy(model, precision="fp32", device="cpu")
    if most is not None:
        _, norm, watch = limited(policy, most)
        norm.register_forward_hook(watch)
    return train(policy, PROMPTS, objective(), settings, folder)


def test_a_step_that_runs_out_of_memory_is_repeated_with_half_the_micro_batch(
    tiny_folder, tmp_path, caplog
):
    caplog.set_level(logging.WARNING)
    plain = run(tmp_path / "plain", tiny_folder, None, replace(SETTINGS, micro_batch=4))
    saved = run(tmp_path / "saved", tiny_folder, 4)
    assert [
        r.getMessage() for r in caplog.records if "micro_batch is 4 instead of 8" in r.getMessage()
    ] != []
    assert sum("Memory ran out" in record.getMessage() for record in caplog.records) == 1
    for name, tensor in plain.policy.adapter.state.items():
        assert torch.equal(saved.policy.adapter.state[name], tensor)


def test_the_second_time_ends_with_the_estimate_and_the_run_is_kept(tiny_folder, tmp_path):
    folder = tmp_path / "run"
    once = replace(SETTINGS, steps=1)
    run(folder, tiny_folder, None, once)
    with pytest.raises(TrainingError) as caught:
        run(folder, tiny_folder, 2)
    message = str(caught.value)
    assert "micro_batch 4" in message
    assert "Tried to allocate 9.00 GiB" in message
    assert "of memory are needed" in message
    assert "\n" not in message
    assert len(read_history(folder)) == 1
    finished = run(folder, tiny_folder, None)
    assert len(read_history(folder)) == 2
    assert finished.policy.adapter is not None


# --- the heap ----------------------------------------------------------------------------------------


@pytest.fixture
def no_choice(monkeypatch):
    """Nobody has chosen for the C library."""
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)


def test_the_lean_heap_gives_large_blocks_back_until_the_last_user_leaves(no_choice):
    """What stays of 200 MB of freed tensors, in MB; each next to a small one that lives on."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux")

    def resident() -> float:
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    with returning_freed_memory("cpu"):
        with returning_freed_memory("cpu"):
            pass
        before = resident()
        pairs = [(torch.ones(500_000), torch.ones(100)) for _ in range(100)]
        assert resident() - before > 150
        pairs = [small for _, small in pairs]
        assert resident() - before < 20
        assert len(pairs) == 100


def test_holes_are_expected_of_small_models_on_a_plain_heap_only(
    tiny_folder, monkeypatch, no_choice
):
    if heap_share("cpu", 1000) == 1:
        pytest.skip("needs glibc")
    parts = told(tiny_folder).parts
    assert 0 < parts["holes in the heap"] < parts["activations"]
    assert heap_share("cpu", 10**9) == heap_share("cuda:0", 1000) == 1
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    assert told(tiny_folder).parts["holes in the heap"] == 0


# --- what is shown, and how it is measured -----------------------------------------------------------


def test_the_weights_of_a_hub_model_are_told_once_its_files_are_there(
    tiny_folder, tmp_path, monkeypatch
):
    import huggingface_hub.constants

    repository = tmp_path / "models--org--small"
    snapshot = repository / "snapshots" / "abc"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    shutil.copytree(tiny_folder, snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    notice = submodule("nodes.checks.memory_notice")
    monkeypatch.setattr(notice, "free_memory", lambda _device: (2**33, 2**34))
    assert notice.before_loading("org/small", "fp32", "cpu") == notice.before_loading(
        snapshot, "fp32", "cpu"
    )
    assert notice.before_loading("org/small", "fp32", "cpu").startswith("weights: ")
    missing = notice.before_loading("org/other", "fp32", "cpu")
    assert "neither a folder nor in the local cache" in missing


def test_a_cell_that_fails_is_listed_with_its_reason_and_does_not_end_the_run(tmp_path):
    result = {"rows": [], "not_measured": []}
    cell = Cell("starter (4 M)", "int9", 1, 2, 4, 2, False)
    benchmark.add(result, cell, tmp_path, "cpu")
    assert result["rows"] == []
    assert result["not_measured"][0].startswith("starter (4 M), int9, 1, 2, 4, 2, False: ")
    assert "`precision` should be one of" in result["not_measured"][0]
