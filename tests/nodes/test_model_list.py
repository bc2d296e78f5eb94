"""The list of models: every configured folder, and nothing that may not be read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from loaded_pack import submodule

host = submodule("nodes.comfy.host")
progress = submodule("nodes.comfy.progress")
paths = submodule("nodes.checks.paths")
errors = submodule("gdpo.errors")
runs = submodule("gdpo.runs.choose")
policies = submodule("gdpo.policies.policy")
runtime = submodule("gdpo.llamacpp.runtime")
rewards = submodule("gdpo.rewards")
history = submodule("gdpo.runs.history")
converter = submodule("gdpo.export.converter")


def make_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def test_models_of_every_configured_path_are_listed(tmp_path):
    roots = tuple(tmp_path / name for name in ("one", "two", "gone", "file"))
    make_folder(roots[0] / "a" / "both")
    make_folder(roots[1] / "a" / "both")
    make_folder(roots[1] / "b")
    roots[3].write_text("not a folder")
    make_folder(tmp_path / "elsewhere")
    (roots[1] / "linked").symlink_to(tmp_path / "elsewhere")
    (roots[1] / "ring").symlink_to(roots[1] / "ring")
    (roots[1] / "up").symlink_to(roots[1])
    host.configure(host.Folders(tmp_path, tmp_path, roots))
    try:
        found = paths.list_models()
    finally:
        host.configure(None)
    assert found["a/both"] == roots[0] / "a" / "both"
    assert {"a/both", "b", "linked"} <= set(found)
    assert "ring" not in found


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_folders_that_may_not_be_read_are_passed_over():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        make_folder(root / "good")
        make_folder(root / "closed" / "x")
        make_folder(root / "listed" / "x")
        (root / "closed").chmod(0o000)
        (root / "listed").chmod(0o444)  # its names can be read, what they name cannot
        host.configure(host.Folders(root, root, (root,)))
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # nothing is closed to the superuser
            found = paths.list_models(), paths.list_prompt_files()
        finally:
            if user == 0:
                os.seteuid(0)
            host.configure(None)
            for folder in ("closed", "listed"):
                (root / folder).chmod(0o755)
    assert (list(found[0]), list(found[1])) == (["good"], ["good/config.json"])
