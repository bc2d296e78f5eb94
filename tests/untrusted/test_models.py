"""A stranger's model is refused with one line, whatever its files ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
from fence import STARTER, call, errors, refused
from hostile_models import MODELS, TEMPLATES, template
from loaded_pack import submodule

chat = submodule("gdpo.policies.chat")
prompts = submodule("gdpo.prompts")


def test_cached_model_is_loaded_by_its_id_without_asking_the_hub(tiny_folder, fence, monkeypatch):
    import huggingface_hub.constants

    cache = fence.folders.models[0] / "cache"
    repository = cache / "models--org--small"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    for number, file in enumerate(tiny_folder.iterdir()):  # as the hub's library lays it out
        (repository / "blobs" / str(number)).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", str(number)))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    (policy,) = call("GDPOLoadModel", model=STARTER, hub_model="org/small", device="cpu")
    assert policy.base.source == policy.base.model.name_or_path == "org/small"
    (snapshot / "adapter_config.json").write_text('{"base_model_name_or_path": "/etc"}')
    refused(
        lambda: call("GDPOLoadModel", model=STARTER, hub_model="org/small", device="cpu"),
        "holds an adapter",
    )


@pytest.mark.parametrize("case", MODELS)
def test_model_that_could_do_harm_is_refused(case, fence, model):
    attack, message = MODELS[case]
    attack(model, fence)
    refused(
        lambda: call("GDPOLoadModel", model="model", device="cpu"),
        message,
        (errors.PolicyError, errors.WorkflowError),
    )


@pytest.mark.parametrize("case", TEMPLATES)
def test_chat_template_can_neither_reach_python_nor_take_for_ever(case, fence, model):
    template(model, TEMPLATES[case])

    def use() -> None:
        (policy,) = call("GDPOLoadModel", model="model", device="cpu")
        chat.render_prompt(policy.base.tokenizer, prompts.make_prompt("x"))

    refused(use, "chat template")
