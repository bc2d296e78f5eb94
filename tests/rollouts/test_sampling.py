from __future__ import annotations

import pytest
import torch
from conftest import make_tokenizer
from random_models import PROMPTS, architectures, random_model
from rounding import same_scores

from gdpo.errors import PolicyError
from gdpo.policies.chat import encode_prompt, stop_ids
from gdpo.rollouts import sample
from gdpo.update.logprobs import score_tokens


@pytest.fixture(scope="module", params=list(architectures()))
def model(request):
    return random_model(request.param)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


def test_greedy_sampling_equals_generate(model, tokenizer):
    found = sample(
        model, tokenizer, PROMPTS, group_size=2, max_new_tokens=20, temperature=0, seed=0
    )
    for b, prompt in enumerate(PROMPTS):
        ids = torch.tensor([encode_prompt(tokenizer, prompt)])
        with torch.no_grad():
            expected = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=20,
                do_sample=False,
                pad_token_id=0,
            )[0, ids.shape[1] :].tolist()
        for row in (2 * b, 2 * b + 1):
            mine = found.completion_ids[row][found.completion_mask[row]].tolist()
            assert mine == expected[: len(mine)]
            assert len(mine) == len(expected) or expected[len(mine) - 1] in stop_ids(
                model, tokenizer
            )


def test_returned_logprobs_are_those_of_a_full_forward(model, tokenizer):
    found = sample(
        model, tokenizer, PROMPTS, group_size=3, max_new_tokens=16, temperature=0.8, seed=1
    )
    scores = score_tokens(model, found, torch.arange(9), 0.8)
    mask = found.completion_mask
    same_scores(scores.logprobs[mask], found.logprobs[mask], model)
    for row in range(9):  # and of the model's own logits, for one sequence alone
        ids = torch.cat([
            found.prompt_ids[row][found.prompt_mask[row].bool()],
            found.completion_ids[row],
        ])
        length = found.completion_ids.shape[1]
        with torch.no_grad():
            logits = model(ids[None]).logits[0, -length - 1 : -1]
        wanted = (logits / 0.8).log_softmax(-1)
        chosen = wanted.gather(1, found.completion_ids[row][:, None]).squeeze(1)
        entropy = -(wanted.exp() * wanted).sum(-1)
        mask = found.completion_mask[row]
        same_scores(scores.logprobs[row][mask], chosen[mask], model)
        same_scores(scores.entropy[row][mask], entropy[mask], model, "entropy")


@pytest.mark.parametrize("trained", ["layer", "layer and head"])
@pytest.mark.parametrize("cap", [None, 3.0])
def test_chunks_do_not_change_scores_or_gradients(tiny_policy, monkeypatch, trained, cap):
    from gdpo.update import logprobs

    base = tiny_policy.base
    found = sample(base.model, base.tokenizer, PROMPTS, group_size=2, max_new_tokens=8, seed=2)
    base.model.double()  # so that only the order of the sums differs, not what it rounds to
    monkeypatch.setattr(base.model.config, "final_logit_softcapping", cap, raising=False)
    weights = [base.model.model.layers[0].mlp.up_proj.weight]
    if trained == "layer and head":
        weights.append(base.model.get_output_embeddings().weight)
    for weight in weights:
        monkeypatch.setattr(weight, "requires_grad", True)
    # Every token with a factor of its own, as advantages are.
    factors = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    results = []
    for elements in (2**30, 3 * 320):
        monkeypatch.setattr(logprobs, "_CHUNK_ELEMENTS", elements)
        scores = score_tokens(base.model, found, torch.arange(6), 1.0)
        weighted = (scores.logprobs * factors[:, : scores.logprobs.shape[1]]).sum()
        results.append((
            scores.logprobs.detach(),
            scores.entropy.detach(),
            *torch.autograd.grad(weighted, weights),
        ))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_a_seed_gives_the_same_completions_and_another_seed_others(tiny_policy):
    base = tiny_policy.base
    draw = lambda seed: sample(
        base.model, base.tokenizer, PROMPTS, group_size=4, max_new_tokens=12, seed=seed
    )
    assert torch.equal(draw(5).completion_ids, draw(5).completion_ids)
    assert not torch.equal(draw(5).completion_ids, draw(6).completion_ids)


def test_dropping_finished_rows_does_not_change_the_others(tiny_policy, monkeypatch):
    from gdpo.rollouts import sampling

    monkeypatch.setattr(
        sampling, "stop_ids", lambda *_: list(range(2, 20))
    )  # so that many rows end early
    base = tiny_policy.base
    runs = []
    for share in (0.01, 2.0):  # drop at once, never drop
        monkeypatch.setattr(sampling, "_DROP_SHARE", share)
        runs.append(
            sample(base.model, base.tokenizer, PROMPTS, group_size=16, max_new_tokens=40, seed=7)
        )
    assert 8 < sum(not c.truncated for c in runs[0].completions) < 48
    assert torch.equal(runs[0].completion_ids, runs[1].completion_ids)
    same_scores(runs[0].logprobs, runs[1].logprobs, base.model)


def test_a_completion_ends_at_a_stop_token_and_the_mask_covers_it(tiny_policy, monkeypatch):
    from gdpo.rollouts import sampling

    stops = set(range(2, 20))
    monkeypatch.setattr(sampling, "stop_ids", lambda *_: sorted(stops))
    base = tiny_policy.base
    found = sample(base.model, base.tokenizer, PROMPTS, group_size=16, max_new_tokens=40, seed=7)
    assert 8 < sum(not c.truncated for c in found.completions) < 48
    for ids, mask, completion in zip(
        found.completion_ids, found.completion_mask, found.completions, strict=True
    ):
        kept = ids[mask].tolist()
        assert completion.truncated == (kept[-1] not in stops)
        assert not stops.intersection(kept[:-1])
        assert completion.tokens == len(kept)
        said = kept if completion.truncated else kept[:-1]
        said = [i for i in said if i != base.tokenizer.pad_token_id]
        assert completion.text == base.tokenizer.decode(said).strip()


def test_a_model_that_computes_nan_is_refused(tiny_policy):
    base = tiny_policy.base
    base.model.model.norm.weight.data[0] = torch.nan
    with pytest.raises(PolicyError, match="not finite"):
        sample(base.model, base.tokenizer, PROMPTS, max_new_tokens=4, seed=0)


def test_poll_can_stop_the_sampling_between_tokens(tiny_policy):
    calls = []

    class Stop(Exception):
        pass

    def poll():
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    base = tiny_policy.base
    with pytest.raises(Stop):
        sample(base.model, base.tokenizer, PROMPTS, max_new_tokens=10, seed=0, poll=poll)


def test_a_prompt_that_leaves_no_room_is_refused(tiny_policy):
    base = tiny_policy.base
    with pytest.raises(PolicyError, match="exceeds the model's 256"):
        sample(base.model, base.tokenizer, PROMPTS, max_new_tokens=250, seed=0)
