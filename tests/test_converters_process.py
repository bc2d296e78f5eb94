"""The converter's own process runs no code of a model, even of one that nobody looked at before: the second wall."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from gguf_models import needs_converter
from strangers import change, honest_model, plant

from gdpo.export import converter
from gdpo.workers import process

AUDITED = Path(__file__).with_name("audited_worker.py")
# Converts one model after the other in one process, which starts with the first of them.
SEVERAL = """
import importlib.util, json, pathlib, runpy, sys, types
spec = importlib.util.spec_from_file_location("audited_worker", {audited!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
script, (_, request, response) = {script!r}, sys.argv
beside = sys.modules["beside"] = types.ModuleType("beside")
beside.__path__ = [str(pathlib.Path(script).parent)]
models = json.load(open(request))["models"]
module.watch({log!r})
for number, one in enumerate(models):
    json.dump(one, open(f"{{number}}.json", "w"))
    sys.argv = [script, f"{{number}}.json", f"{{number}}.jsonl"]
    try:
        runpy.run_module("beside." + pathlib.Path(script).stem, run_name="__main__")
    except SystemExit:
        pass
open(response, "w").write("{{}}\\n")
"""


def request(model: Path, target: Path, converter_folder: Path) -> dict[str, object]:
    """An order of the converter's worker."""
    names = {"converter": str(converter_folder.absolute()), "model": str(model), "name": "m"}
    return {**names, "outputs": [["F16", str(target)]]}


def convert(models: Sequence[Path], scratch: Path) -> tuple[list[list[str]], list[bool]]:
    """What a converter's process does with model folders as they are, and which of them became a file."""
    scratch.mkdir()
    log, worker = scratch / "log", scratch / "worker.py"
    script = str(converter.CONVERT_WORKER)
    worker.write_text(SEVERAL.format(audited=str(AUDITED), script=script, log=str(log)))
    targets = [scratch / f"{number}.gguf" for number in range(len(models))]
    where = converter.find_converter()
    orders = [request(model, target, where) for model, target in zip(models, targets, strict=True)]
    process.run_worker(worker, {"task": "Converting", "models": orders})
    events = [json.loads(line) for line in log.read_text().splitlines()]
    return events, [target.exists() for target in targets]


def unusual(found: list[list[str]], usual: list[list[str]]) -> list[list[str]]:
    """Events of a stranger's model that an honest one does not cause.

    The standard library and the converter's own programs, of which an architecture's name chooses one, may be imported.
    """
    own = (os.path.dirname(os.__file__), str(converter.find_converter()))
    allowed = {*sys.stdlib_module_names, "conversion"}
    known = {json.dumps(event) for event in usual}
    return [
        event
        for event in found
        if json.dumps(event) not in known
        and not (event[0] == "import" and event[1].partition(".")[0] in allowed)
        and not (event[0] == "compile" and event[1].startswith(own))
    ]


def of_tokenizer(reference: str, *architectures: str):
    """An attack by the tokenizer's code, behind another architecture if one is given."""

    def attack(folder: Path) -> None:
        change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [reference, None]})
        if architectures:
            change(folder / "config.json", architectures=[*architectures, "LlamaForCausalLM"])

    return attack


ATTACKS = (
    of_tokenizer("models/LLM/evil--evil.Tok", "DreamModel"),
    of_tokenizer("evil.Tok", "DreamModel"),
    of_tokenizer("a/b--evil.Tok", "DreamModel"),
    of_tokenizer("evil.Tok"),
    lambda folder: change(folder / "config.json", auto_map={"AutoConfig": "evil.Tok"}),
)


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    """A folder for models below the working directory, so that a relative path names a model."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models" / "LLM"


@needs_converter
def test_the_converter_runs_no_code_of_a_model_that_reaches_it(models, tmp_path):
    """The folder's checks are passed by here."""
    usual, made = convert([honest_model(models / "honest")], tmp_path / "usual")
    assert made == [True]
    assert any(event[0] == "compile" for event in usual)  # the hook sees what it should
    folders = [models / ("evil" if not n else f"evil{n}") for n in range(len(ATTACKS))]
    for folder, attack in zip(folders, ATTACKS, strict=True):
        plant(honest_model(folder), tmp_path / "mark")
        attack(folder)
    found, _ = convert(folders, tmp_path / "attacks")
    assert ["import", "conversion.dream", "None"] in found  # it came so far
    assert not (tmp_path / "mark").exists()
    assert unusual(found, usual) == []


@needs_converter
def test_a_converter_that_asks_to_trust_the_code_is_not_given_it(models, tmp_path):
    """As llama.cpp's does in many places, in the form that its own process then meets."""
    evil, fake = honest_model(models / "evil"), tmp_path / "converter"
    plant(evil, tmp_path / "mark")
    of_tokenizer("evil.Tok")(evil)
    fake.mkdir()
    (fake / "convert_hf_to_gguf.py").write_text(
        "class Model:\n"
        "    def get_vocab_base_pre(self, tokenizer): ...\n"
        "def main():\n"
        "    from transformers import AutoTokenizer\n"
        f"    AutoTokenizer.from_pretrained({str(evil)!r}, trust_remote_code=True)\n"
    )
    order = {"task": "Converting", **request(evil, Path("x"), fake)}
    process.run_worker(converter.CONVERT_WORKER, order)
    assert not (tmp_path / "mark").exists()
