"""`docs/python.md`: its first example runs as it is printed, and it names everything that is public."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys

import pytest
from gguf_models import needs_llama
from loaded_pack import ROOT

import gdpo
from gdpo.export.converter import find_converter
from gdpo.starter import MODEL_DIR

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
# A model that is here and few steps, in place of the hub's model and its 300 steps.
MODEL = '"Qwen/Qwen2.5-0.5B-Instruct", precision="nf4", allow_download=True'
SMALLER = {
    "steps=300": "steps=2, eval_every=2, prompts_per_step=2, group_size=4, max_new_tokens=8",
    '["What is 12 * 7?"])': '["What is 12 * 7?"], max_new_tokens=8)',
}


# Paths that start at the working folder are as good as whole ones and as objects, though workers start elsewhere.
MORE = """
print(gdpo.compare({"tuned": run.policy, "gguf": str(file.path)}, heldout[:1], []).table())
print(gdpo.generate("runs/first/gguf/first-Q8_0.gguf", ["Hi"], max_new_tokens=4))
"""


@needs_llama
def test_the_first_example_runs_as_it_is_printed(tmp_path):
    program = EXAMPLES[0] + MORE
    relative = repr(os.path.relpath(MODEL_DIR, tmp_path))
    for printed, smaller in {**SMALLER, MODEL: relative}.items():
        assert program.count(printed) == 1
        program = program.replace(printed, smaller)
    (tmp_path / "example.py").write_text(program, encoding="utf-8")
    for name in ("questions", "heldout"):
        rows = [{"prompt": f"What is {n} * 4?", "reference": str(n * 4)} for n in range(1, 5)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    converter = os.path.relpath(find_converter(), tmp_path)
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "GDPO_LLAMA_CPP": converter},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rewards = ast.literal_eval(done.stdout.splitlines()[0])
    assert list(rewards) == ["right", "short", "polite"]
    assert all(0 <= value <= 1 for pair in rewards.values() for value in pair)
    assert "tuned" in done.stdout
    assert "gguf" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("[Completion(text=")
    assert (tmp_path / "first.png").stat().st_size > 10_000
    assert (tmp_path / "runs/first/gguf/first-Q8_0.gguf").is_file()
    assert gdpo.open_run(tmp_path / "runs/first").rewards == rewards


def test_the_readme_has_the_same_example():
    assert f"```python\n{EXAMPLES[0]}```" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.strip().splitlines()[0])
def test_every_example_uses_only_names_and_settings_that_there_are(example):
    settings = set(gdpo.TrainSettings.__dataclass_fields__)
    for node in ast.walk(ast.parse(example)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "gdpo" or node.attr in gdpo.__all__
            assert node.value.id != "run" or hasattr(gdpo.TrainedRun, node.attr)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "gdpo.train":
            named = {keyword.arg for keyword in node.keywords}
            assert named <= settings | {"heldout", "progress"}


def test_the_page_has_a_line_for_every_public_name_and_for_no_other():
    listed = re.findall(r"^\| `(\w+)` \| \S", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(gdpo.__all__)
