"""What is exported is the model in memory that was trained, not what loading it again happens to give."""

from __future__ import annotations

import pytest
import torch
from conftest import make_model, need_quantised_cpu
from gguf_models import needs_converter, tuned

from gdpo.errors import ExportError
from gdpo.export.in_memory import check_reloaded, probe_policy, unexplained
from gdpo.export.merge import full_precision
from gdpo.export.pipeline import export_gguf
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import Policy
from gdpo.progress import Progress


@needs_converter
def test_a_base_that_is_not_that_of_its_files_is_refused(tmp_path):
    """As one was of which a weight was missing in the files: random in memory, and otherwise so at the export."""
    policy = tuned(load_policy(make_model(tmp_path / "model"), device="cpu"))
    torch.manual_seed(5)
    with torch.no_grad():
        policy.base.model.model.layers[1].mlp.up_proj.weight.normal_(std=0.02)
    with pytest.raises(ExportError, match="model in memory") as caught:
        export_gguf(policy, tmp_path / "gguf", "x", types=["F16"])
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "gguf").iterdir()) == []


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "int8", "nf4"])
def test_every_precision_is_the_model_of_its_files(tiny_folder, precision):
    if precision in {"int8", "nf4"}:
        need_quantised_cpu()
    policy = tuned(load_policy(tiny_folder, precision=precision, device="cpu"))
    again = full_precision(policy, tiny_folder, "fp32")
    trained = probe_policy(policy, Progress())
    check_reloaded(trained, probe_policy(again, Progress()), policy, "fp32")
    if precision not in {"int8", "nf4"}:  # the adapter is part of what is compared
        alone = probe_policy(Policy(again.base), Progress())
        with pytest.raises(ExportError, match="model in memory"):
            check_reloaded(trained, alone, policy, "fp32")


def test_a_random_model_is_another_in_every_precision(tmp_path):
    one, other = (
        probe_policy(load_policy(make_model(tmp_path / str(s), seed=s), device="cpu"), Progress())
        for s in (0, 1)
    )
    assert unexplained(one, other) > 0.5


def test_the_unexplained_share_of_a_hand_worked_case():
    """Centred, (1, 3) is (-1, 1) and (0, 1) is (-0.5, 0.5): a difference of 0.5 of the 2."""
    one, other = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])
    assert unexplained([one], [other]) == pytest.approx(0.25)
    assert unexplained([one], [one + 7]) == 0.0
