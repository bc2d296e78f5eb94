"""The choice of a token: exact frequencies, limits by hand-worked numbers, and stop strings."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import make_tokenizer
from test_rollouts import PROMPTS

from gdpo.rollouts import sample
from gdpo.rollouts.choose_token import Limits, _limited, pick
from gdpo.rollouts.rows import StopStrings

# Probabilities 1/2, 1/4, 1/8, 1/16, 1/16, in another order.
PROBS = torch.tensor([[1 / 8, 1 / 2, 1 / 16, 1 / 4, 1 / 16]])


def kept(**limits):
    return _limited(PROBS, Limits(**limits))[0].nonzero()[:, 0].tolist()


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
    torch.testing.assert_close(picks.entropy, entropy, rtol=0, atol=1e-5)


def test_numbers_that_are_not_finite_stay_visible():
    logits = torch.tensor([[0.0, torch.nan, 1.0]])
    assert not pick(logits, 1.0, torch.tensor([0.5])).logprobs.isfinite().any()


def test_top_k_keeps_the_likeliest():
    assert kept(top_k=1) == [1]
    assert kept(top_k=3) == [0, 1, 3]
    assert kept(top_k=9) == [0, 1, 2, 3, 4]


def test_top_p_keeps_the_fewest_that_reach_the_share():
    assert kept(top_p=0.4) == [1]  # 1/2 alone reaches it
    assert kept(top_p=0.7) == [1, 3]  # 1/2 does not, 3/4 does
    assert kept(top_p=0.8) == [0, 1, 3]
    assert kept(top_p=0.0) == [1]  # one token always stays


def test_top_p_looks_at_what_top_k_left():
    # Of 1/2 and 1/4, the first is 2/3: enough for 0.6, which it would not be of the whole.
    assert kept(top_k=2, top_p=0.6) == [1]
    assert kept(top_k=5, top_p=0.6) == [1, 3]


def test_min_p_is_measured_against_the_likeliest():
    assert kept(min_p=0.25) == [0, 1, 3]  # at least 1/8
    assert kept(min_p=0.3) == [1, 3]
    assert kept(min_p=1.0) == [1]


def test_limits_change_what_is_drawn_and_not_the_numbers():
    logits = PROBS.log().repeat(4, 1)
    picks = pick(logits, 1.0, torch.tensor([0.0, 0.6, 0.7, 0.999]), Limits(top_k=2))
    # What is left is 1/2 and 1/4, in the order of the vocabulary: the first takes 2/3 of the numbers.
    assert picks.tokens.tolist() == [1, 1, 3, 3]
    wanted = torch.tensor([0.5, 0.5, 0.25, 0.25]).log()
    torch.testing.assert_close(picks.logprobs, wanted)
    # 1/2 * 1 + 1/4 * 2 + 1/8 * 3 + 2 * 1/16 * 4 = 1.875 bits
    torch.testing.assert_close(picks.entropy, torch.full((4,), 1.875 * math.log(2)))


def test_limits_reach_the_sampling(tiny_policy):
    base = tiny_policy.base
    draw = lambda **options: (
        sample(
            base.model, base.tokenizer, PROMPTS, group_size=4, max_new_tokens=12, seed=0, **options
        ).completion_ids
    )
    greedy = draw(temperature=0)
    assert torch.equal(draw(top_k=1), greedy)
    assert torch.equal(draw(top_p=0.0), greedy)
    assert torch.equal(draw(min_p=1.0), greedy)
    assert not torch.equal(draw(), greedy)


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


class Letters:
    """One letter a token."""

    def decode(self, ids, **_options):
        return "".join(chr(97 + i) for i in ids)


def test_stop_strings_are_found_across_tokens_and_cut():
    strings = StopStrings(Letters(), ["cab", "zz"], 2)
    live = torch.tensor([True, True])
    met = [strings.met(torch.tensor(pair), live).tolist() for pair in ((2, 25), (0, 3), (1, 25))]
    assert met == [[False, False], [False, False], [True, False]]  # "cab" and "zdz"
    strings.keep([1])
    assert strings.met(torch.tensor([25]), live[:1]).tolist() == [True]  # "zdzz"
    assert strings.cut("xx cab zz") == "xx "
    assert strings.cut("none") == "none"


def test_a_stop_string_ends_the_completion_and_is_not_in_its_text(tiny_policy):
    base = tiny_policy.base
    draw = lambda **options: sample(
        base.model, base.tokenizer, PROMPTS, group_size=8, max_new_tokens=24, seed=0, **options
    )
    free = draw()
    letter = "e"
    stopped = draw(stop=[letter])
    assert sum(letter in c.text for c in free.completions) > 4
    for row, (before, after) in enumerate(zip(free.completions, stopped.completions, strict=True)):
        assert letter not in after.text
        count = after.tokens
        ids = stopped.completion_ids[row, :count]
        assert torch.equal(ids, free.completion_ids[row, :count])
        if letter in before.text:
            assert not after.truncated
            assert letter in base.tokenizer.decode(ids[-1:])
            assert after.text == before.text[: before.text.find(letter)].strip()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_logprob_and_entropy_are_those_of_the_distribution_at_the_temperature(temperature):
    logits = torch.randn(50, 300, generator=torch.Generator().manual_seed(0)) * 5
    picks = pick(logits, temperature, torch.linspace(0, 0.99, 50))
    wanted = (logits.double() / temperature).log_softmax(-1)
    found = wanted.gather(1, picks.tokens[:, None])[:, 0]
    torch.testing.assert_close(picks.logprobs.double(), found, rtol=0, atol=1e-5)
    entropy = -(wanted.exp() * wanted).sum(-1)
    torch.testing.assert_close(picks.entropy.double(), entropy, rtol=0, atol=1e-4)
