"""The published methods against TRL: its formula, and its own trainer where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from score_tensors import NAN, rewards_with_gaps

from gdpo.objective import advantages


def trl_normalize_then_sum(rewards: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """TRL 1.16's formula for one (N, K) batch in groups of G, written out with loops."""
    groups, size, count = rewards.shape
    total = np.full((groups, size), np.nan)
    for b in range(groups):
        for i in range(size):
            parts = []
            for k in range(count):
                column = rewards[b, :, k]
                known = column[~np.isnan(column)]
                std = known.std(ddof=1) if len(known) > 1 else np.nan
                parts.append(
                    weights[k] * (rewards[b, i, k] - known.mean()) / (std + 1e-4)
                    if len(known)
                    else np.nan
                )
            if not np.isnan(rewards[b, i]).all():
                total[b, i] = np.nansum(parts)
    known = total[~np.isnan(total)]
    whitened = (total - known.mean()) / (known.std(ddof=1) + 1e-4)
    return np.nan_to_num(whitened)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_decoupled_equals_trls_normalize_then_sum(seed, share):
    rewards = rewards_with_gaps(seed, share=share)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    combined = torch.einsum("k,kbg->bg", weights, advantages.decoupled(rewards))
    ours = combined / advantages.batch_std(combined, rewards)
    theirs = trl_normalize_then_sum(rewards.permute(1, 2, 0).numpy(), weights.numpy())
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-9)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["gdpo_decoupled", "grpo"])
def test_published_methods_give_what_trls_own_trainer_computes(method, tiny_folder, tmp_path):
    """TRL's trainer samples 4 x 4 completions and is given our rewards, gaps and a constant group among them."""
    pytest.importorskip("trl", reason="compares with TRL itself: pip install trl")
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    share = 0.25 if method == "gdpo_decoupled" else 0.0
    rewards = rewards_with_gaps(11, shape=(3, 4, 4), share=share)
    rewards[0, 1] = 0.5  # constant in a group
    if share:
        rewards[:, 2, 1] = NAN  # no reward at all
        rewards[1, 3] = torch.tensor([NAN, 0.3, NAN, NAN])  # one score in a group
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)

    def reward(k):
        def given(completions, **_):
            column = rewards[k].flatten().tolist()
            return [None if math.isnan(value) else value for value in column]

        given.__name__ = f"reward_{k}"
        return given

    arguments = GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=16,
        num_generations=4,
        max_completion_length=4,
        reward_weights=weights.tolist(),
        multi_objective_aggregation=(
            "normalize_then_sum" if method == "gdpo_decoupled" else "sum_then_normalize"
        ),
        use_cpu=True,
        bf16=False,
        report_to=[],
        disable_tqdm=True,
    )
    prompts = [{"prompt": f"question {b}"} for b in range(4)]
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_folder),
        processing_class=AutoTokenizer.from_pretrained(tiny_folder),
        reward_funcs=[reward(k) for k in range(3)],
        args=arguments,
        train_dataset=pytest.importorskip("datasets").Dataset.from_list(prompts),
    )
    batch = [row for row in prompts for _ in range(4)]
    theirs = trainer._generate_and_score_completions(batch)["advantages"].view(4, 4)
    if method == "gdpo_decoupled":
        combined = torch.einsum("k,kbg->bg", weights, advantages.decoupled(rewards))
        ours = combined / advantages.batch_std(combined, rewards)
    else:
        parts = advantages.summed_then_normalised(rewards, weights)
        ours = torch.einsum("k,kbg->bg", weights, parts)
    torch.testing.assert_close(ours.float(), theirs, atol=2e-4, rtol=1e-3)
