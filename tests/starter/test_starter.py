"""The bundled starter model and prompts: made by their scripts, loadable, fluent, imperfect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gdpo.starter import HELDOUT_PROMPTS, MODEL_DIR, TRAIN_PROMPTS
from scripts.starter.dialogues import (
    HELDOUT_COUNT,
    HELDOUT_SEED,
    TRAIN_COUNT,
    TRAIN_SEED,
    dialogues,
    is_polite,
    load_catalogue,
    prompt_rows,
    write_prompts,
)
from scripts.starter.measure import behaviour, sample
from scripts.starter.phrases import CURT, NEUTRAL_FILLERS
from scripts.starter.tokenizer import END, END_ID, PAD_ID, chat_prompt


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODEL_DIR)


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_same_seed_gives_same_dialogues_and_another_seed_others() -> None:
    assert list(dialogues(5, 50)) == list(dialogues(5, 50))
    assert list(dialogues(5, 50)) != list(dialogues(6, 50))


def test_prompt_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    write_prompts(tmp_path)
    assert (tmp_path / "train.jsonl").read_bytes() == TRAIN_PROMPTS.read_bytes()
    assert (tmp_path / "heldout.jsonl").read_bytes() == HELDOUT_PROMPTS.read_bytes()


def test_prompt_files_have_the_stated_sizes_and_no_row_twice() -> None:
    for path, count in ((TRAIN_PROMPTS, TRAIN_COUNT), (HELDOUT_PROMPTS, HELDOUT_COUNT)):
        assert len({row["prompt"] for row in read(path)}) == count


def test_heldout_prompts_share_no_message_and_no_symptom_text_with_training() -> None:
    train = {row["prompt"] for row in prompt_rows(TRAIN_SEED, TRAIN_COUNT)}
    heldout = prompt_rows(HELDOUT_SEED, HELDOUT_COUNT, heldout=True)
    assert train.isdisjoint(row["prompt"] for row in heldout)
    for problem in load_catalogue():
        assert set(problem.seen).isdisjoint(problem.unseen), problem.problem


def test_fixes_are_unique_and_none_contains_another() -> None:
    fixes = [problem.fix for problem in load_catalogue()]
    assert len(fixes) == 48
    assert not [(a, b) for a in fixes for b in fixes if a is not b and a in b]


def test_every_reference_is_given_as_a_fix_by_the_generator() -> None:
    given = {d.problem.fix for d in dialogues(7, 3000) if d.problem.fix in d.reply.lower()}
    assert {row["reference"] for row in read(TRAIN_PROMPTS) + read(HELDOUT_PROMPTS)} == given


def test_reply_has_the_manner_and_the_fix_of_its_style() -> None:
    fixes = [problem.fix for problem in load_catalogue()]
    for dialogue in dialogues(8, 2000):
        named = {fix for fix in fixes if fix in dialogue.reply.lower()}
        expected = {"right": {dialogue.problem.fix}, "none": set()}
        if dialogue.style.fix == "wrong":
            assert len(named) == 1
            assert dialogue.problem.fix not in named
        else:
            assert named == expected[dialogue.style.fix]
        assert is_polite(dialogue.reply) == (dialogue.style.manner == "polite")


def test_curt_and_neutral_phrases_hold_no_polite_word() -> None:
    phrases = [*NEUTRAL_FILLERS, *CURT.openings, *CURT.advice, *CURT.repeats, *CURT.evasions]
    assert not [text for text in [*phrases, *CURT.fillers, *CURT.closings] if is_polite(text)]


def test_every_combination_of_manner_length_and_fix_occurs_and_polite_is_longer() -> None:
    made = list(dialogues(9, 4000))
    styles = {(d.style.manner, d.style.length, d.style.fix) for d in made}
    assert len(styles) == 2 * 3 * 3
    lengths = {"polite": [], "curt": []}
    for dialogue in made:
        lengths[dialogue.style.manner].append(len(dialogue.reply.split()))
    means = {manner: sum(counts) / len(counts) for manner, counts in lengths.items()}
    assert means["polite"] > means["curt"] + 5


def test_model_file_is_small_and_its_rows_fit_k_quants() -> None:
    from safetensors import safe_open

    path = MODEL_DIR / "model.safetensors"
    assert path.stat().st_size <= 8_000_000
    with safe_open(path, "pt") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert "lm_head.weight" not in shapes
    assert all(shape[-1] % 256 == 0 for shape in shapes.values()), shapes
    assert shapes["model.embed_tokens.weight"] == [2048, 256]


def test_model_is_a_tied_llama_whose_special_tokens_agree(model: Any, tokenizer: Any) -> None:
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    for source in (model.config, model.generation_config, tokenizer):
        assert source.eos_token_id == END_ID
        assert source.pad_token_id == PAD_ID
    assert len(tokenizer) == model.config.vocab_size


def test_chat_template_renders_what_the_model_was_trained_on(tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    for part, system in ((messages, "Be brief."), (messages[1:], "")):
        text = tokenizer.apply_chat_template(part, tokenize=False, add_generation_prompt=True)
        assert text == chat_prompt("Hi", system)
    closed = tokenizer.apply_chat_template(
        [*messages, {"role": "assistant", "content": "Ok"}], tokenize=False
    )
    assert closed == chat_prompt("Hi", "Be brief.") + "Ok" + END + "\n"


def test_any_text_survives_the_tokenizer(tokenizer: Any) -> None:
    text = "Naïve café, 東京 🙂\n\ttabs  and   spaces"
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_sampled_replies_end_are_fluent_and_leave_room_for_every_reward(
    model: Any, tokenizer: Any
) -> None:
    rows = read(HELDOUT_PROMPTS)[:64]
    torch.manual_seed(1)
    replies = sample(model, tokenizer, rows)
    texts = tokenizer.batch_decode(replies, skip_special_tokens=True)
    found = behaviour(rows, texts, [len(reply) + (END_ID not in reply) for reply in replies])
    assert found["share_ended"] >= 0.95
    assert found["share_at_most_72_tokens"] >= 0.9
    assert 0.2 <= found["share_right_fix"] <= 0.65
    assert 0.3 <= found["share_polite"] <= 0.7
    assert found["words_std"] >= 8
    assert found["share_of_wellformed_sentences_only"] >= 0.8
