"""Special tokens that a model says reach the rewards; those that end a completion do not."""

from __future__ import annotations

import pytest
import torch
from chain_model import TAGS, make_chain_model, tagged_tokenizer
from conftest import make_tokenizer
from gguf_models import needs_llama

from gdpo.evaluation.answers import generate
from gdpo.export.pipeline import export_gguf
from gdpo.policies.chat import completion_text
from gdpo.policies.loading import load_policy
from gdpo.prompts import make_prompt
from gdpo.rewards import AnswerMatch, Pattern, Reward, score_rewards

PROMPT = make_prompt("How many clips?", fields={"reference": 72})
SAID = "So <answer>72</answer>"
REWARDS = [
    Reward("form", Pattern(pattern=r"<answer>\s*\d+\s*</answer>", syntax="regex")),
    Reward("template", Pattern(pattern="{thought}<answer>{answer}</answer>")),
    Reward("right", AnswerMatch(mode="numeric")),
]


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """A policy that answers `SAID`, with the tags as special tokens."""
    return policy_that_says(SAID, tmp_path_factory.mktemp("tagged"), TAGS)


def policy_that_says(text, folder, tags):
    tokenizer = tagged_tokenizer(tags)
    said = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return load_policy(make_chain_model(folder, said, tokenizer, PROMPT), device="cpu")


def answer(model):
    return generate(model, [PROMPT], max_new_tokens=24, temperature=0.0)


def test_tags_that_are_special_tokens_are_rewarded(tagged):
    assert set(TAGS) <= set(tagged.base.tokenizer.get_added_vocab())
    found = answer(tagged)
    assert (found[0].text, found[0].truncated) == (SAID, False)
    assert score_rewards(REWARDS, [PROMPT], found).tolist() == [[1.0], [1.0], [1.0]]


@needs_llama
def test_llama_cpp_gives_the_rewards_the_same_text_however_long_a_tag_is(tmp_path):
    tags = [*TAGS, f"<{'very-' * 20}long>"]
    policy = policy_that_says(SAID + tags[-1], tmp_path / "model", tags)
    (file,) = export_gguf(policy, tmp_path, "tagged", types=["F16"], prompts=[PROMPT])
    assert answer(file.path) == answer(policy)
    assert answer(policy)[0].text == SAID + tags[-1]


def test_stop_tokens_and_padding_are_left_out_wherever_they_stand():
    tokenizer = tagged_tokenizer()
    pad, stop = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = tokenizer(SAID, add_special_tokens=False).input_ids
    other = tokenizer.convert_tokens_to_ids("3")
    for row in ([*ids, stop], [*ids, stop, pad, pad], [*ids[:2], pad, *ids[2:], other]):
        assert completion_text(tokenizer, row, [stop, other]) == SAID


def test_no_space_comes_between_special_tokens_and_the_text():
    texts = ["<answer>72</answer>", "a <answer> 72 </answer> , b .", "<answer></answer>", "a ."]
    for tokenizer in (tagged_tokenizer(), *spacing_tokenizers()):
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False).input_ids
            assert completion_text(tokenizer, ids, []) == text, type(tokenizer)


def spacing_tokenizers():
    """Tokenizers of the kinds whose decoding likes to add or drop spaces."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

    tidy = make_tokenizer()
    tidy.clean_up_tokenization_spaces = True
    pieces = Tokenizer(models.BPE(unk_token="<unk>"))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    pieces.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(special_tokens=["<unk>", "<pad>"], show_progress=False)
    pieces.train_from_iterator(["a b , . 72 27 2 7"], trainer)
    sentencepiece = PreTrainedTokenizerFast(tokenizer_object=pieces, pad_token="<pad>")
    for tokenizer in (tidy, sentencepiece, ByT5Tokenizer()):
        tokenizer.add_special_tokens({"additional_special_tokens": list(TAGS)})
        yield tokenizer


def test_the_text_is_what_the_model_said_whatever_it_says(tiny_policy):
    tokenizer = tiny_policy.base.tokenizer
    stops = [tokenizer.eos_token_id]
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        ids = torch.randint(len(tokenizer), (30,), generator=generator).tolist()
        left = [i for i in ids if i not in (*stops, tokenizer.pad_token_id)]
        said = completion_text(tokenizer, ids, stops)
        assert said == tokenizer.decode(left, skip_special_tokens=False).strip()
        assert ("<|im_start|>" in said) == (tokenizer.convert_tokens_to_ids("<|im_start|>") in ids)
