"""The choice of a token: exact frequencies and hand-worked numbers."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import make_tokenizer
from random_models import PROMPTS
from rounding import bound

from gdpo.rollouts import choose_token, sample
from gdpo.rollouts.choose_token import pick


def test_sampled_frequencies_are_the_probabilities():
    logits = torch.tensor([[2.0, 0.0, -torch.inf, 1.0]]).repeat(20000, 1)
    uniforms = torch.rand(20000, generator=torch.Generator().manual_seed(0))
    picks = pick(logits, 0.5, uniforms)
    wanted = (logits[0] / 0.5).softmax(0)
    frequencies = torch.bincount(picks.tokens, minlength=4) / 20000
    assert frequencies[2] == 0
    # standard error of a share is at most 0.5 / sqrt(20000) = 0.0035; four of them
    torch.testing.assert_close(frequencies, wanted, rtol=0, atol=0.015)
    torch.testing.assert_close(picks.logprobs, wanted.log()[picks.tokens])
    entropy = torch.special.entr(wanted).sum().expand(20000)
    torch.testing.assert_close(picks.entropy, entropy, rtol=0, atol=bound(4) + bound(2, 4.0))


def test_numbers_that_are_not_finite_stay_visible():
    logits = torch.tensor([[0.0, torch.nan, 1.0]])
    assert not pick(logits, 1.0, torch.tensor([0.5])).logprobs.isfinite().any()


def test_tokens_and_numbers_of_a_distribution_worked_by_hand():
    # Probabilities 1/8, 1/2, 1/16, 1/4 and 1/16 end at 0.125, 0.625, 0.6875, 0.9375 and 1.
    logits = torch.tensor([[1 / 8, 1 / 2, 1 / 16, 1 / 4, 1 / 16]]).log().repeat(4, 1)
    picks = pick(logits, 1.0, torch.tensor([0.0, 0.6, 0.7, 0.999]))
    assert picks.tokens.tolist() == [0, 1, 3, 4]
    wanted = torch.tensor([1 / 8, 1 / 2, 1 / 4, 1 / 16]).log()
    torch.testing.assert_close(picks.logprobs, wanted)
    # 1/2 * 1 + 1/4 * 2 + 1/8 * 3 + 2 * 1/16 * 4 = 1.875 bits
    torch.testing.assert_close(picks.entropy, torch.full((4,), 1.875 * math.log(2)))


def test_first_tokens_are_distributed_as_those_of_generate():
    """Chi-square of homogeneity over pairs of tokens, on a vocabulary of 6."""
    import transformers as t

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = t.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        eos_token_id=2,
    )
    model = t.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(30.0)
        model.lm_head.bias = torch.nn.Parameter(torch.full((len(tokenizer),), -1e9))
        model.lm_head.bias[10:16] = 0.0
    count = 3000
    mine = sample(model, tokenizer, PROMPTS[:1], group_size=count, max_new_tokens=2, seed=0)
    with torch.no_grad():
        theirs = model.generate(
            input_ids=mine.prompt_ids,
            attention_mask=mine.prompt_mask,
            max_new_tokens=2,
            do_sample=True,
            top_k=0,
            pad_token_id=0,
        )[:, -2:]
    tables = []
    for pairs in (mine.completion_ids, theirs):
        pairs = pairs - 10
        assert pairs.min() >= 0
        assert pairs.max() < 6
        tables.append(torch.bincount(pairs[:, 0] * 6 + pairs[:, 1], minlength=36).double())
    total = tables[0] + tables[1]
    used = total >= 10
    statistic = sum(((table - total / 2) ** 2 / (total / 2))[used].sum() for table in tables)
    freedom = int(used.sum()) - 1
    assert freedom >= 5
    # mean `freedom`, variance 2 * freedom: four standard deviations
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_logprob_and_entropy_are_those_of_the_distribution_at_the_temperature(temperature):
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0)) * 5
    picks = pick(logits, temperature, torch.linspace(0, 0.99, 50))
    wanted = (logits.double() / temperature).log_softmax(-1)
    found = wanted.gather(1, picks.tokens[:, None])[:, 0]
    # A sum over 300 probabilities, and roundings of the logit and its difference from that sum.
    rounded = bound(300) + bound(2, float(wanted.abs().max()))
    torch.testing.assert_close(picks.logprobs.double(), found, rtol=0, atol=rounded)
    entropy = -(wanted.exp() * wanted).sum(-1)
    allowed = (1 + math.log(300)) * rounded  # as in `same_scores`
    torch.testing.assert_close(picks.entropy.double(), entropy, rtol=0, atol=allowed)


@pytest.mark.parametrize("count", [64, 61, 5])  # whole blocks, a rest, less than a block
def test_a_large_vocabulary_gives_the_tokens_of_the_cumulative_sum(count, monkeypatch):
    """In blocks of 8. A random number nearer to a boundary than rounding may fall on either side of it."""
    monkeypatch.setattr(choose_token, "_LARGE", 2)
    monkeypatch.setattr(choose_token, "_BLOCK", 8)
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(1, count, generator=generator)).repeat(4000, 1)
    uniforms = torch.rand(4000, generator=generator)
    ends = logits[0].double().softmax(0).cumsum(0)
    clear = (uniforms.double()[:, None] - ends).abs().amin(1) > bound(count)
    assert clear.sum() > 3900
    wanted = torch.searchsorted(ends, uniforms.double(), right=True)
    assert torch.equal(pick(logits, 1.0, uniforms).tokens[clear], wanted[clear])


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
def test_no_token_of_probability_0_is_met_in_a_large_vocabulary(uniform, monkeypatch):
    monkeypatch.setattr(choose_token, "_LARGE", 2)
    monkeypatch.setattr(choose_token, "_BLOCK", 8)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 45, generator=generator)
    # Whole blocks without any probability, at both ends and between, and tokens without it in others.
    logits[:, :8] = logits[:, 24:32] = logits[:, 40:] = -torch.inf
    logits[torch.rand(500, 45, generator=generator) < 0.5] = -torch.inf
    logits[:, 12] = 0.0
    picks = pick(logits, 1.0, torch.full((500,), uniform))
    assert picks.logprobs.isfinite().all()
    assert picks.entropy.isfinite().all()
    likely = logits.softmax(-1).gather(1, picks.tokens[:, None])
    assert float(likely.min()) > 0


@pytest.mark.parametrize("step", [-1, 0, 1])
def test_rounding_at_the_end_of_a_block_meets_no_token_of_probability_0(step, monkeypatch):
    """Random numbers at the end of the first of three blocks, whose own last tokens have no probability."""
    monkeypatch.setattr(choose_token, "_LARGE", 2)
    monkeypatch.setattr(choose_token, "_BLOCK", 8)
    logits = torch.randn(3000, 24, generator=torch.Generator().manual_seed(0))
    logits[:, 5:8] = logits[:, 8:11] = -torch.inf
    ends = logits.softmax(-1)[:, :8].sum(1)
    uniforms = ends + step * torch.finfo(torch.float32).eps / 2 * ends
    tokens = pick(logits, 1.0, uniforms).tokens
    assert set(tokens.tolist()) <= {0, 1, 2, 3, 4, *range(11, 24)}


def test_numbers_that_are_not_finite_stay_visible_in_a_large_vocabulary(monkeypatch):
    monkeypatch.setattr(choose_token, "_LARGE", 2)
    logits = torch.zeros(1, 1500)
    logits[0, 3] = torch.nan
    picks = pick(logits, 1.0, torch.tensor([0.5]))
    assert not picks.logprobs.isfinite().any()
    assert 0 <= int(picks.tokens) < 1500


def test_the_same_tokens_come_from_blocks_and_from_one_sum_for_a_real_vocabulary():
    """262 144 tokens, of which the blocks decide: frequencies of a few likely ones."""
    logits = torch.full((1, 262_144), -30.0)
    logits[0, [0, 511, 512, 262_143]] = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    uniforms = torch.tensor([0.0, 0.05, 0.15, 0.29, 0.35, 0.59, 0.65, 0.999])
    picks = pick(logits.repeat(8, 1), 1.0, uniforms)
    assert picks.tokens.tolist() == [0, 0, 511, 511, 512, 512, 262_143, 262_143]
