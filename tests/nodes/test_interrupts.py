"""Interrupts end every phase between small units of work, and leave no process."""

from __future__ import annotations

import subprocess

import pytest
import torch
from gguf_models import exported, needs_llama
from loaded_pack import call, submodule
from node_training import train

progress = submodule("nodes.comfy.progress")
history = submodule("gdpo.runs.history")
pipeline = submodule("gdpo.export.pipeline")


BUSY = {
    "steps": 50,
    "prompts_per_step": 4,
    "group_size": 4,
    "max_new_tokens": 48,
    "micro_batch": 16,
    "lora_rank": 8,
    "kl_coeff": 0.1,
}


@pytest.fixture
def stop_at(folders, monkeypatch):
    """Gives a function that asks for a stop at the n-th poll of a phase, and sees the work end there."""

    def stop(phase, work, *, poll, after=1):
        polls: list[str] = []

        class Watched(progress.TerminalProgress):
            current = ""

            def phase(self, name, done, total):
                self.current = name if done >= after else ""
                super().phase(name, done, total)

            def poll(self):
                super().poll()
                if self.current.startswith(phase):
                    polls.append(self.current)
                    if len(polls) == poll:
                        progress.request_stop()

        monkeypatch.setitem(progress._state, "stop", False)
        with monkeypatch.context() as patch:
            patch.setattr(progress, "TerminalProgress", Watched)
            with pytest.raises(progress.Stopped):
                work()
        monkeypatch.setitem(progress._state, "stop", False)
        assert len(polls) == poll

    return stop


@pytest.mark.parametrize("phase", ["sampling", "scoring", "updating", "evaluating"])
def test_interrupt_stops_training_between_small_units_and_keeps_the_work(
    phase, parts, folders, stop_at
):
    settings, layers = BUSY, parts["model"].base.model.config.num_hidden_layers
    units = {
        "sampling": BUSY["max_new_tokens"],
        "scoring": 4 * 2 * 2,  # completions, each for two rewards
        "updating": 2 * (layers + 1),  # layers and the head, forward and back
        "evaluating": BUSY["max_new_tokens"],
    }[phase]
    if phase == "scoring":
        settings = {**BUSY, "group_size": 2, "max_new_tokens": 8}
    if phase == "evaluating":
        (held,) = call("GDPOLoadPrompts", file="support desk: held-out", limit=8)
        parts = {**parts, "heldout": held}
        settings = {**BUSY, "eval_every": 2, "group_size": 2}
    work = lambda: train(**parts, run_name="a", **settings)
    for poll in (1, units):
        stop_at(phase, work, poll=poll)
    folder = folders.output / "gdpo" / "a"
    done = max(record["step"] for record in history.read_history(folder))
    assert done >= 1
    assert (folder / "checkpoints" / f"step-{done:06d}").is_dir()
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


def test_a_pass_is_stopped_between_its_layers_forward_and_backward(parts):
    polling = submodule("gdpo.polling")
    model, calls = parts["model"].base.model, []
    ids = torch.arange(8)[None]

    def work(stop):
        calls.clear()

        def poll():
            calls.append(1)
            if len(calls) == stop:
                raise KeyboardInterrupt

        with polling.polled(model, poll):
            embedded = model.get_input_embeddings()(ids).requires_grad_()
            model(inputs_embeds=embedded).logits.sum().backward()

    work(stop=0)
    points = 2 * (model.config.num_hidden_layers + 1)  # each layer and the head, both ways
    assert len(calls) == points
    for stop in range(1, points + 1):
        with pytest.raises(KeyboardInterrupt):
            work(stop)
        assert len(calls) == stop
    calls.clear()
    model(ids)
    assert not calls


@pytest.fixture
def started(monkeypatch):
    """The helper processes that are started, but for the one that stays to tokenise for all who ask."""
    seen = []

    class Recorded(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            if not any("prompt_worker" in str(part) for part in self.args):
                seen.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return seen


@needs_llama
def test_interrupt_ends_the_helper_processes_and_leaves_nothing(parts, folders, stop_at, started):
    export = lambda: call("GDPOExportGGUF", model=parts["model"], type="F16")
    stop_at("Convert", export, poll=2, after=0)
    assert list((folders.output / "gdpo" / "untrained" / "gguf").iterdir()) == []
    gguf = pipeline.GGUF(exported().files["F16"].path, "F16", {})
    chat = lambda: call("GDPOChat", gguf=gguf, message="Hi", max_new_tokens=400)
    stop_at("Answer", chat, poll=2, after=0)
    assert started
    assert all(process.returncode is not None for process in started)


def test_interrupt_stops_a_comparison_between_tokens(parts, folders, stop_at):
    model, asked = parts["model"], {"prompts": parts["prompts"], "rewards": parts["rewards"]}
    work = lambda: call("GDPOCompare", base=model, tuned=model, **asked, max_new_tokens=48)
    stop_at("evaluating", work, poll=48, after=0)
