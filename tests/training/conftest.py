"""What the tests of trainings share."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_training import PROMPTS, SETTINGS, objective

from gdpo.policies.loading import load_policy
from gdpo.training.trainer import train


@pytest.fixture(scope="session")
def reference(tiny_folder, tmp_path_factory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    train(
        load_policy(tiny_folder, device="cpu"),
        PROMPTS,
        objective(),
        SETTINGS,
        folder,
        heldout=PROMPTS[:3],
    )
    return folder
