"""Answers from exported files by llama.cpp's runtime."""

from __future__ import annotations

import pytest
from gguf_models import LLAMA3_RULE, PROMPTS, change_json, copied, exported, needs_llama, with_split

from gdpo.errors import InferenceError
from gdpo.export.pipeline import export_gguf
from gdpo.llamacpp.generate import generate
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import attached
from gdpo.progress import Progress
from gdpo.prompts import make_prompt
from gdpo.rollouts import sample


class Recorder(Progress):
    """Keeps every phase."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []

    def phase(self, name: str, done: int, total: int) -> None:
        self.seen.append((name, done, total))


def answer(kind: str = "F16", prompts=PROMPTS, **options):
    settings = {"max_new_tokens": 24, "temperature": 0.0, "seed": 0} | options
    return generate(exported().files[kind].path, prompts, **settings)


@needs_llama
def test_greedy_answers_of_the_f16_file_are_the_policys_own():
    policy = exported().policy
    with attached(policy) as model:
        rollouts = sample(
            model, policy.base.tokenizer, PROMPTS, max_new_tokens=24, temperature=0.0, seed=0
        )
    assert [completion.text for completion in answer()] == [c.text for c in rollouts.completions]
    assert [completion.tokens for completion in answer()] == [
        c.tokens for c in rollouts.completions
    ]
    assert [c.truncated for c in answer()] == [c.truncated for c in rollouts.completions]


@needs_llama
def test_a_seed_gives_the_same_answers_whatever_else_is_asked():
    first = answer("Q4_K_M", temperature=1.0, seed=3)
    assert first == answer("Q4_K_M", temperature=1.0, seed=3)
    assert first[:1] == answer("Q4_K_M", PROMPTS[:1], temperature=1.0, seed=3)
    assert first != answer("Q4_K_M", temperature=1.0, seed=4)


@needs_llama
def test_the_token_limit_truncates_and_progress_is_told():
    progress = Recorder()
    completions = answer(max_new_tokens=2, progress=progress)
    assert all(c.tokens <= 2 for c in completions)
    assert any(c.truncated and c.tokens == 2 for c in completions)
    assert progress.seen[0] == ("Answer with tiny-F16", 0, len(PROMPTS))
    assert progress.seen[-1] == ("Answer with tiny-F16", len(PROMPTS), len(PROMPTS))


@needs_llama
def test_plain_text_by_an_unknown_tokenizer_with_llama_3s_split_rule_is_answered_alike(tmp_path):
    folder = with_split(copied(tmp_path), LLAMA3_RULE)
    (folder / "chat_template.jinja").unlink(
        missing_ok=True
    )  # transformers 5 writes it there, 4 in:
    change_json(folder / "tokenizer_config.json", chat_template=None)
    policy = load_policy(folder, device="cpu")
    assert not policy.base.tokenizer.chat_template
    (file,) = export_gguf(policy, tmp_path / "gguf", "plain", types=["F16"], prompts=PROMPTS)
    assert file.report.holds is True
    assert "tokenises" not in file.report.why  # nor on the probes
    with attached(policy) as model:
        expected = sample(
            model, policy.base.tokenizer, PROMPTS, max_new_tokens=8, temperature=0.0, seed=0
        )
    found = generate(file.path, PROMPTS, max_new_tokens=8, temperature=0.0, seed=0)
    assert [c.text for c in found] == [c.text for c in expected.completions]


@needs_llama
def test_a_prompt_longer_than_the_context_is_named():
    with pytest.raises(InferenceError, match=r"the prompt 'word word .* the model's context 256"):
        answer(prompts=[make_prompt("word " * 300)])


@needs_llama
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, r"`max_new_tokens` must be at least 1\. Found 0"),
        ({"temperature": -1.0}, r"`temperature` must be 0 or more\. Found -1\.0"),
        ({"temperature": float("nan")}, r"`temperature` must be 0 or more\. Found nan"),
        ({"seed": -1}, r"`seed` must be 0 or more\. Found -1"),
    ],
)
def test_bad_settings_are_refused(options, message):
    with pytest.raises(InferenceError, match=message):
        answer(**options)


@needs_llama
def test_a_missing_or_foreign_file_is_refused(tmp_path):
    settings = {"max_new_tokens": 2, "temperature": 0.0, "seed": 0}
    with pytest.raises(InferenceError, match=r"There is no file .*absent\.gguf"):
        generate(tmp_path / "absent.gguf", PROMPTS, **settings)
    (tmp_path / "note.gguf").write_bytes(b"hello")
    with pytest.raises(
        InferenceError, match=r"note\.gguf is no GGUF file \(it starts with b'hell'\)"
    ):
        generate(tmp_path / "note.gguf", PROMPTS, **settings)
    (tmp_path / "cut.gguf").write_bytes(exported().files["Q8_0"].path.read_bytes()[:50_000])
    with pytest.raises(InferenceError, match=r"cut\.gguf cannot be loaded: .*bounds"):
        generate(tmp_path / "cut.gguf", PROMPTS, **settings)


def test_no_prompts_need_no_model(tmp_path):
    assert generate(tmp_path / "x.gguf", [], max_new_tokens=1, temperature=0.0, seed=0) == []


def test_without_llama_cpp_python_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("gdpo.llamacpp.generate.runtime_version", lambda: None)
    with pytest.raises(InferenceError, match=r"needs llama-cpp-python: run `.*pip install"):
        generate(tmp_path / "x.gguf", PROMPTS, max_new_tokens=1, temperature=0.0, seed=0)
