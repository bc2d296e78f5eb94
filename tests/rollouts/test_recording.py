"""The decode step as it is recorded on a graphics card: fixed shapes, fixed places, nothing read back meanwhile."""

from __future__ import annotations

import logging
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import make_tokenizer
from random_models import PROMPTS, WRITTEN_OUT, adapted, random_model
from rounding import same_scores
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gdpo.policies.adapter import innermost
from gdpo.rollouts import decoders, sample, sampling
from gdpo.rollouts.llama_step import recording
from gdpo.rollouts.llama_step.own_cache import FixedCache

# What cannot be recorded on a card: the processor would have to know a result.
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"}


class Tape(TorchDispatchMode):
    """What a CUDA graph is, on a CPU: the same operations, again, on the memory that they had.

    Kernels are played again with the very arguments of the recording, and write where they wrote then. What
    Python computed in between is not computed again.
    """

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, found))
        return found

    def play(self):
        for func, args, kwargs, found in self.calls:
            given = {t.untyped_storage().data_ptr() for t in tensors((args, kwargs))}
            fresh = [t for t in tensors(found) if t.untyped_storage().data_ptr() not in given]
            if not fresh and not func._schema.is_mutable:
                continue  # a view
            again = func(*args, **kwargs)
            for old, new in zip(tensors(found), tensors(again), strict=True):
                if any(old is t for t in fresh):
                    old.copy_(new)


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


@pytest.fixture
def tapes(monkeypatch):
    """Steps are recorded on this CPU, in the form they have on a card; all tapes, with the times each was played."""
    made = []
    monkeypatch.setattr("gdpo.rollouts.llama_step.read_layout.worth_copying", lambda inner: False)
    monkeypatch.setattr("gdpo.rollouts.merged_layers._mergeable", lambda model: [])

    def record(step, tokens):
        with Tape() as tape:
            logits = step(tokens)
        tape.played = 0
        made.append(tape)

        def replay():
            tape.played += 1
            tape.play()
            return logits

        return replay

    monkeypatch.setattr(decoders, "recordable", lambda model: model not in recording._refused)
    monkeypatch.setattr(decoders, "Recorder", partial(recording.Recorder, record=record))
    return made


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer()


OPTIONS = {"group_size": 3, "max_new_tokens": 24, "seed": 0}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_replayed_steps_give_the_completions_of_plain_ones(name, tokenizer, request, monkeypatch):
    model = adapted(random_model(name))
    if not sampling.has_cache(model):
        pytest.skip("this transformers has no cache for it that a group can share")
    plain = sample(model, tokenizer, PROMPTS, **OPTIONS)
    tapes = request.getfixturevalue("tapes")
    monkeypatch.setattr(FixedCache, "_BUCKET", 10)  # other shapes while it goes on
    found = sample(model, tokenizer, PROMPTS, **OPTIONS)
    assert found.completion_ids.tolist() == plain.completion_ids.tolist()
    same_scores(found.logprobs, plain.logprobs, model)
    assert len(tapes) >= 2
    assert sum(tape.played for tape in tapes) > 8
    assert innermost(model) not in recording._refused


def test_nothing_is_read_back_while_a_step_is_recorded(tokenizer, tapes):
    sample(adapted(random_model("mistral")), tokenizer, PROMPTS, **OPTIONS)
    names = {func._schema.name for tape in tapes for func, *_ in tape.calls}
    assert "aten::index_copy_" in names
    assert not names & WAITING


def test_rows_that_leave_need_another_recording(tokenizer, request, monkeypatch):
    model = random_model("llama")
    options = OPTIONS | {"max_new_tokens": 40, "group_size": 8}
    plain = sample(model, tokenizer, PROMPTS, **options)
    tapes = request.getfixturevalue("tapes")
    monkeypatch.setattr(sampling, "_DROP_SHARE", 1e-6)
    found = sample(model, tokenizer, PROMPTS, **options)
    assert found.completion_ids.tolist() == plain.completion_ids.tolist()
    assert len({tape.calls[-1][3].shape[0] for tape in tapes}) > 1


@pytest.mark.parametrize("fault", ["fails", "computes something else"])
def test_a_recording_that_is_not_the_step_is_given_up_and_told_once(
    tokenizer, tapes, monkeypatch, caplog, fault
):
    attempts = []

    def record(step, tokens):
        attempts.append(1)
        if fault == "fails":
            raise RuntimeError("operation not permitted when stream is capturing")
        return lambda: step(tokens) * 2

    model = random_model("qwen2")
    monkeypatch.setattr(decoders, "Recorder", partial(recording.Recorder, record=record))
    with caplog.at_level(logging.WARNING):
        first = sample(model, tokenizer, PROMPTS, **OPTIONS)
        second = sample(model, tokenizer, PROMPTS, **OPTIONS)
    monkeypatch.undo()
    plain = sample(model, tokenizer, PROMPTS, **OPTIONS)
    assert first.completion_ids.tolist() == plain.completion_ids.tolist()
    assert second.completion_ids.tolist() == plain.completion_ids.tolist()
    assert len(attempts) == 1
    told = [r.getMessage() for r in caplog.records if "CUDA graph" in r.getMessage()]
    assert len(told) == 1
    assert ("capturing" if fault == "fails" else "differ") in told[0]


def test_a_cancelled_recording_is_no_refusal(tokenizer, tapes, monkeypatch):
    model = random_model("qwen2")

    def record(step, tokens):
        raise KeyboardInterrupt

    monkeypatch.setattr(decoders, "Recorder", partial(recording.Recorder, record=record))
    with pytest.raises(KeyboardInterrupt):
        sample(model, tokenizer, PROMPTS, **OPTIONS)
    assert model not in recording._refused


def test_nothing_is_raised_in_a_recording_but_after_it(tokenizer, tapes, monkeypatch):
    seen = []

    def record(step, tokens):
        seen.append("recording")
        step(tokens)
        seen.append("recorded")
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def poll():
        seen.append("poll")

    model = random_model("qwen2")
    monkeypatch.setattr(decoders, "Recorder", partial(recording.Recorder, record=record))
    sample(model, tokenizer, PROMPTS, **OPTIONS, poll=poll)
    begin = seen.index("recording")
    assert seen[begin : begin + 3] == ["recording", "recorded", "poll"]
    assert seen.count("recording") == 1  # not again in this batch
    assert model not in recording._refused  # there may be room another time


def test_on_a_cpu_nothing_is_recorded(monkeypatch):
    monkeypatch.setenv("GDPO_CUDA_GRAPHS", "1")
    assert not recording.recordable(random_model("llama"))


def test_recording_is_off_unless_asked_for(monkeypatch):
    model = SimpleNamespace(device=torch.device("cuda"), modules=list)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "native")
    monkeypatch.delenv("GDPO_CUDA_GRAPHS", raising=False)
    assert not recording.recordable(model)
    monkeypatch.setenv("GDPO_CUDA_GRAPHS", "1")
    monkeypatch.setattr(recording, "_refused", [])
    assert recording.recordable(model) == (not torch.version.hip)
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: "cudaMallocAsync")
    assert not recording.recordable(model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_a_cuda_graph_gives_the_completions_of_plain_steps(name, tokenizer, monkeypatch):
    monkeypatch.setenv("GDPO_CUDA_GRAPHS", "1")
    model = adapted(random_model(name)).cuda()
    found = sample(model, tokenizer, PROMPTS, **OPTIONS)
    assert innermost(model) not in recording._refused
    monkeypatch.setattr(decoders, "recordable", lambda model: False)
    plain = sample(model, tokenizer, PROMPTS, **OPTIONS)
    assert found.completion_ids.tolist() == plain.completion_ids.tolist()
    same_scores(found.logprobs, plain.logprobs, model)
