"""Attacks: what a stranger's workflow, prompt file or model could try. Each is refused with one line.

An audit hook sees every file that is opened and every connection that is made meanwhile, so an attack that reads
or writes something outside the allowed folders fails here even if it is refused afterwards. Where the environment
variable GDPO_COMFYUI holds the address of a running ComfyUI with this pack, it is attacked too.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import struct
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import make_model
from loaded_pack import PACK, ROOT, submodule

host = submodule("nodes.comfy.host")
errors = submodule("gdpo.errors")
workflow = submodule("nodes.headless.workflow")
workflow_file = submodule("nodes.headless.workflow_file")
rewards = submodule("gdpo.rewards")
prompts = submodule("gdpo.prompts")
policies = submodule("gdpo.policies.policy")
chat = submodule("gdpo.policies.chat")
scoring = submodule("gdpo.rewards.scoring")
runtime = submodule("gdpo.llamacpp.runtime")
export = submodule("gdpo.export.pipeline")
trainer = submodule("gdpo.training.trainer")
converter = submodule("gdpo.export.converter")
base_rewards = submodule("gdpo.rewards.scorer")

NODES = PACK.NODE_CLASS_MAPPINGS
STARTER = "starter (bundled)"
QUICK_START = ROOT / "workflows" / "quick_start.json"
SECRET = "the-secret-of-this-machine"


# --- the fence ---------------------------------------------------------------------------------------

_watched: dict[str, object] = {"outside": None, "seen": []}
_PATHS = {"open": 1, "os.listdir": 1, "os.scandir": 1, "os.mkdir": 1, "os.remove": 1, "os.rmdir": 1}
_PATHS |= {"os.rename": 2, "os.link": 2, "os.symlink": 2, "os.truncate": 1, "os.chmod": 1}


def _watch(event: str, arguments: tuple) -> None:
    outside = _watched["outside"]
    if outside is None:
        return
    if event in {"socket.connect", "socket.getaddrinfo", "os.system", "os.exec"}:
        _watched["seen"].append(f"{event} {arguments[:2]}")
    for given in arguments[: _PATHS.get(event, 0)]:
        path = os.fsdecode(given) if isinstance(given, (str, bytes, os.PathLike)) else ""
        if os.path.realpath(path).startswith(outside):
            _watched["seen"].append(f"{event} {path}")


sys.addaudithook(_watch)


@dataclass(frozen=True)
class Fence:
    """The allowed folders, and one outside with secrets in it."""

    folders: object
    outside: Path

    def snapshot(self) -> dict[str, bytes | None]:
        """Everything that is outside, and the names of the outputs."""
        root = self.outside.parent
        return {
            str(path): path.read_bytes() if path.is_file() else None
            for path in sorted(self.outside.rglob("*"))
        } | {str(path): None for path in root.iterdir()}


@pytest.fixture
def fence(tmp_path, monkeypatch):
    """Nothing outside is touched, no code of a stranger runs, and nothing is sent."""
    folders = host.Folders(tmp_path / "output", tmp_path / "input", (tmp_path / "models",))
    for folder in (folders.output, folders.inputs, *folders.models):
        folder.mkdir()
    outside = tmp_path / "outside"
    (outside / "gguf").mkdir(parents=True)
    for name in ("secret.txt", "secret.jsonl", "config.json", "tokenizer.json", "x.safetensors"):
        (outside / name).write_text(SECRET)
    made = Fence(folders, outside)
    monkeypatch.delenv(host.DOWNLOAD_SWITCH, raising=False)
    monkeypatch.delenv("GDPO_STRANGER_RAN", raising=False)
    monkeypatch.chdir(tmp_path)
    host.configure(folders)
    before = made.snapshot()
    _watched["seen"] = []
    _watched["outside"] = os.path.realpath(outside)
    yield made
    _watched["outside"] = None
    host.configure(None)
    assert _watched["seen"] == []
    assert "GDPO_STRANGER_RAN" not in os.environ
    assert made.snapshot() == before


def refused(work: Callable[[], object], message: str, kind: type = errors.GDPOError) -> str:
    """The one line with which `work` is refused."""
    with pytest.raises(kind) as caught:
        work()
    text = str(caught.value)
    assert re.search(message, text), text
    assert len(text.splitlines()) == 1, text
    assert len(text) < 1500, len(text)
    assert SECRET not in text
    return text


def call(node_id, **inputs):
    """Run one node with its defaults, as the host would: under inference mode."""
    node_class = NODES[node_id]
    with torch.inference_mode():
        return getattr(node_class(), node_class.FUNCTION)(**inputs)


@pytest.fixture(scope="module")
def starter():
    return call("GDPOLoadModel", model=STARTER, device="cpu")[0]


@pytest.fixture(scope="module")
def parts(starter):
    (few,) = call("GDPOLoadPrompts", file="support desk: train", limit=2)
    (reward,) = call("GDPODefineRewardPoliteness", name="polite")
    (objective,) = call(
        "GDPOCombineRewards",
        reward_1=reward,
        method="gdpo",
        weighting="directed",
        dispersion_floor=0.7,
    )
    return {"model": starter, "prompts": few, "rewards": objective}


TINY = {"steps": 1, "prompts_per_step": 1, "group_size": 2, "max_new_tokens": 4, "lora_rank": 2}


# --- texts as paths ----------------------------------------------------------------------------------

NAMES = {
    "parent": "../../outside/x",
    "parents alone": "..",
    "absolute": "/etc/cron.d/x",
    "drive": "C:\\Windows\\x",
    "drive relative": "c:x",
    "UNC": "\\\\server\\share\\x",
    "device path": "\\\\.\\PhysicalDrive0",
    "NUL byte": "run\0/../../x",
    "Windows device": "nul",
    "Windows device with suffix": "COM1.safetensors",
    "Windows device in full width": "ＮＵＬ",
    "trailing dot": "run.",
    "stream": "run:stream",
    "very long": "x" * 100_000,
    "full-width dots and slash": "．．／．．／outside",
    "division slash": "..∕..∕outside",
    "one-dot leader": "‥/x",
    "right-to-left override": "run\u202egnp.exe",
    "home": "~/.ssh/authorized_keys",
    "variable": "$HOME",
    "percent escapes": "%2e%2e%2foutside",
    "shell": "x; touch outside/x",
    "line end": "run\nrun",
    "escape sequence": "\x1b]0;x\x07",
    "option": "-rf",
    "format string": "{0.__class__}",
    "empty": "   ",
}


@pytest.mark.parametrize("case", NAMES)
def test_run_name_that_is_no_plain_name_is_refused(case, fence, parts):
    refused(lambda: call("GDPOTrain", **parts, run_name=NAMES[case], **TINY), "run_name")
    assert NODES["GDPOTrain"].VALIDATE_INPUTS(run_name=NAMES[case]) is not True
    assert list(fence.folders.output.iterdir()) == []


@pytest.mark.parametrize("case", [case for case in NAMES if case != "empty"])
def test_export_name_that_is_no_plain_name_is_refused(case, fence, starter):
    refused(lambda: call("GDPOExportGGUF", model=starter, type="F16", name=NAMES[case]), "name")
    assert list(fence.folders.output.iterdir()) == []


@pytest.mark.parametrize(
    "node_id", ["../../outside/x", "a\0b", "x" * 10_000, "<img src=x>", 5, None]
)
def test_node_id_is_never_a_path(node_id, fence, parts):
    call("GDPOTrain", **parts, run_name="a", unique_id=node_id, workflow={"x": math.nan}, **TINY)
    assert [path.name for path in fence.folders.output.iterdir()] == ["gdpo"]
    assert [path.name for path in (fence.folders.output / "gdpo").iterdir()] == ["a"]


HUB_IDS = {
    "parent": "../outside",
    "absolute": "/etc",
    "inside out": "org/../../outside",
    "URL": "https://attacker.example/model",
    "file URL": "file:///etc/passwd",
    "UNC": "\\\\server\\share",
    "drive": "C:\\models",
    "NUL byte": "org/model\0",
    "three parts": "org/model/../..",
    "revision": "org/model@main",
    "query": "org/model?x=1",
    "own folder": "outside",
    "long": "a" * 200_000,
}


@pytest.mark.parametrize("case", HUB_IDS)
def test_hub_id_that_is_a_path_or_address_is_refused(case, fence):
    refused(
        lambda: call("GDPOLoadModel", model=STARTER, hub_model=HUB_IDS[case]),
        "hub_model|cannot be loaded|input",
    )


@pytest.mark.parametrize("switch", [None, "", "0", "true", "yes", " 1"])
def test_nothing_is_fetched_unless_the_owner_switched_it_on(switch, fence, monkeypatch):
    import huggingface_hub.constants

    # The tests' own switch would hide an attempt.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    if switch is not None:
        monkeypatch.setenv(host.DOWNLOAD_SWITCH, switch)
    refused(
        lambda: call("GDPOLoadModel", model=STARTER, hub_model="no-such-org/no-such-model"),
        "downloads are switched off",
    )


@pytest.mark.parametrize("file", ["../outside/secret.txt", "/etc/passwd", "outside", "a\0", "", 5])
def test_prompt_file_that_is_not_listed_is_refused(file, fence):
    refused(lambda: call("GDPOLoadPrompts", file=file), "input 'file'")


# --- symlinks and special files ------------------------------------------------------------------------


@pytest.fixture
def link(fence):
    """Makes a symlink inside the allowed folders that leads outside."""

    def make(path: Path, target: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(fence.outside / target)
        _watched["seen"].clear()  # this was the test's own doing
        return path

    return make


@pytest.mark.parametrize("entry", ["", "checkpoints", ".lock", "completions.jsonl"])
def test_training_does_not_write_through_a_symlink(entry, fence, link, parts):
    link(fence.folders.output / "gdpo" / "a" / entry, "secret.txt" if "." in entry else "gguf")
    refused(lambda: call("GDPOTrain", **parts, run_name="a", **TINY), "symlink")


@pytest.mark.parametrize("entry", ["history.jsonl", "run.json", "adapter"])
def test_training_leaves_a_run_alone_that_leads_out(entry, fence, link, parts):
    link(fence.folders.output / "gdpo" / "a" / entry, "secret.txt" if "." in entry else "gguf")
    run = call("GDPOTrain", **parts, run_name="a", **TINY)["result"][1]
    assert run.folder.name == "a-2"


def test_continued_run_is_not_written_through_a_symlink(fence, link, parts):
    call("GDPOTrain", **parts, run_name="a", **TINY)
    history = fence.folders.output / "gdpo" / "a" / "history.jsonl"
    history.unlink()
    link(history, "secret.txt")
    refused(lambda: call("GDPOTrain", **parts, run_name="a", **TINY), "symlink")


def test_the_whole_output_of_the_pack_must_not_be_a_symlink_that_leads_out(fence, link, parts):
    link(fence.folders.output / "gdpo", "gguf")
    refused(lambda: call("GDPOTrain", **parts, run_name="a", **TINY), "symlink")


def test_export_does_not_write_through_a_symlink(fence, link, starter):
    link(fence.folders.output / "gdpo" / "untrained" / "gguf", "gguf")
    refused(lambda: call("GDPOExportGGUF", model=starter, type="F16"), "symlink")


def test_plot_does_not_write_through_a_symlink(fence, link, starter):
    folder = fence.folders.output / "gdpo" / "a"
    link(folder / "convergence.png", "secret.txt")
    (folder / "history.jsonl").write_text('{"step": 1, "rewards": {}}\n')
    run = trainer.TrainResult(starter, folder)
    refused(lambda: call("GDPOPlotConvergence", run=run), "symlink")


def test_prompts_behind_symlinks_pipes_and_devices_are_not_offered(fence, link):
    link(fence.folders.inputs / "link.txt", "secret.txt")
    link(fence.folders.inputs / "folder", "")
    (fence.folders.inputs / "zero.txt").symlink_to("/dev/zero")
    (fence.folders.inputs / "ring.txt").symlink_to(fence.folders.inputs / "ring.txt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(fence.folders.inputs / "pipe.jsonl")
    offered = NODES["GDPOLoadPrompts"].INPUT_TYPES()["required"]["file"][0]
    assert set(offered) == set(submodule("nodes.load_prompts").BUNDLED)
    refused(lambda: call("GDPOLoadPrompts", file="link.txt"), "input 'file'")


# --- numbers and types ---------------------------------------------------------------------------------

VALUES = {
    "a thousand million steps": {"steps": 10**9},
    "negative steps": {"steps": -1},
    "steps beyond all numbers": {"steps": 10**5000},
    "text for steps": {"steps": "5"},
    "fraction of a step": {"steps": 1.5},
    "truth for steps": {"steps": True},
    "NaN steps": {"steps": math.nan},
    "tensor for steps": {"steps": torch.tensor(5)},
    "list for steps": {"steps": [5]},
    "infinite rate": {"learning_rate": math.inf},
    "NaN rate": {"learning_rate": math.nan},
    "text for the rate": {"learning_rate": "1e-4"},
    "negative temperature": {"temperature": -1.0},
    "temperature of 0": {"temperature": 0.0},
    "endless completions": {"max_new_tokens": 10**9},
    "groups of a million": {"group_size": 10**6},
    "groups of one": {"group_size": 1},
    "no micro-batch": {"micro_batch": 0},
    "rank of a million": {"lora_rank": 10**6},
    "unknown optimiser": {"optimizer": "__import__('os').system('true')"},
    "unknown switch": {"existing_run": "delete"},
    "text for a truth": {"gradient_checkpointing": "false"},
    "number for a name": {"run_name": 5.5},
    "bytes for a name": {"run_name": b"a"},
    "model that is a path": {"model": "/etc/passwd"},
    "model that is a class": {"model": policies.Policy},
    "prompts that are a list": {"prompts": ["x"]},
    "prompts that are texts": {"prompts": ("x",)},
    "rewards that are a dict": {"rewards": {"rewards": ()}},
    "held-out that is a model": {"heldout": object()},
}


@pytest.mark.parametrize("case", VALUES)
def test_linked_value_that_does_not_fit_is_refused(case, fence, parts):
    inputs = {**parts, "run_name": "a", **TINY, **VALUES[case]}
    if case == "number for a name":  # the host turns numbers into text, and this is a plain name
        assert call("GDPOTrain", **inputs)["result"][1].folder.name == "5.5"
        return
    refused(lambda: call("GDPOTrain", **inputs), f"input '{next(iter(VALUES[case]))}'")
    assert list(fence.folders.output.iterdir()) == []


def test_gigabyte_of_text_is_refused_before_anything_looks_at_it(fence, starter):
    # One text of 256 million characters; Python's own limits would take it further.
    huge = "a" * (256 * 2**20)
    refused(lambda: call("GDPOLoadModel", model=STARTER, hub_model=huge), "at most 1000000")
    refused(lambda: call("GDPODefineRewardKeywords", name="k", required=huge), "at most 1000000")
    refused(lambda: call("GDPODefineRewardPoliteness", name=huge), "at most 1000000")
    few = "a" * 999_999
    refused(lambda: call("GDPODefineRewardKeywords", name="k", required=few), "at most 20000")


def test_workflow_that_is_nested_too_deeply_to_be_kept_is_refused(fence, parts):
    deep: dict = {}
    for _ in range(5000):
        deep = {"x": deep}
    refused(
        lambda: call("GDPOTrain", **parts, run_name="a", workflow=deep, **TINY), "nested too deeply"
    )


def test_gguf_input_takes_no_path(fence):
    for value in (str(fence.outside / "secret.txt"), fence.outside / "secret.txt", {"path": "x"}):
        refused(lambda: call("GDPOChat", gguf=value, message="x"), "input 'gguf'")  # noqa: B023


# --- rewards -------------------------------------------------------------------------------------------

PROMPT = prompts.make_prompt("x")


def score(reward, text):
    completion = base_rewards.Completion(text, 10)
    return scoring.score_rewards([reward], [PROMPT], [completion], lambda: None)


PATTERNS = {
    "deep nesting": ("(" * 499 + "b" + ")" * 499, "a"),
    "nested repetition": (r"(a+)+$", "a" * 5000 + "b"),
    "alternation": (r"(a|a)*$", "a" * 5000 + "b"),
    "three loops": (r"a*a*a*a*a*b", "a" * 20_000),
    "look-behind": (r"(?<=(a+)+)c", "a" * 5000),
    "back reference": (r"(a*)*\1b", "a" * 5000),
}


@pytest.mark.parametrize("case", PATTERNS)
def test_catastrophic_pattern_ends_and_is_an_error_not_a_reward(case, fence):
    pattern, text = PATTERNS[case]

    def work():
        (reward,) = call("GDPODefineRewardPattern", name="p", pattern=pattern, syntax="regex")
        return float(score(reward, text))

    assert outcome(work) in {0.0, "refused"}  # no match, found in time, or an error: never a match


def outcome(work: Callable[[], object]) -> object:
    """What `work` gives, or "refused" if that is said on one line."""
    try:
        return work()
    except errors.RewardError as error:
        return "refused" if len(str(error).splitlines()) == 1 else str(error)


DEFINITIONS = {
    "counted repetition": (
        "Pattern",
        {"pattern": "(a{1000}){1000}", "syntax": "regex"},
        "too often",
    ),
    "recursion": ("Pattern", {"pattern": "(a(?R)?b)", "syntax": "regex"}, "recursive"),
    "broken pattern": ("Pattern", {"pattern": "(((", "syntax": "regex"}, "not valid"),
    "long pattern": ("Pattern", {"pattern": "a" * 5000, "syntax": "regex"}, "1000 characters"),
    "format conversion": ("Pattern", {"pattern": "x {a!r}"}, "placeholder"),
    "format width": ("Pattern", {"pattern": "x {a:>1000000000}"}, "placeholder"),
    "schema by HTTP": ("JSONSchema", {"schema": '{"$ref": "http://attacker.example/s"}'}, "inside"),
    "schema by file": ("JSONSchema", {"schema": '{"$ref": "file:///etc/passwd"}'}, "inside"),
    "schema by path": ("JSONSchema", {"schema": '{"$ref": "../outside/secret.txt"}'}, "inside"),
    "schema of a dialect": (
        "JSONSchema",
        {"schema": '{"$schema": "http://attacker.example"}'},
        "draft",
    ),
    "schema nested deeply": ("JSONSchema", {"schema": '{"a":' * 3000 + "1" + "}" * 3000}, "deep"),
    "schema of brackets": ("JSONSchema", {"schema": "[" * 19_000}, "JSON object"),
    "schema with patterns": (
        "JSONSchema",
        {"schema": '{"patternProperties": {"(a+)+$": {}}}'},
        "not supported",
    ),
    "schema with a catastrophe": (
        "JSONSchema",
        {"schema": '{"pattern": "(a{999}){999}"}'},
        "too often",
    ),
    "NaN in a schema": ("JSONSchema", {"schema": '{"minimum": NaN}'}, "not JSON"),
    "thousands of keywords": (
        "Keywords",
        {"required": ",".join(map(str, range(4000)))},
        "at most 500",
    ),
    "name with line ends": ("Politeness", {"name": "a\nb"}, "printable"),
    "NaN target": ("Politeness", {"target": math.nan}, "finite"),
    "infinite threshold": ("Politeness", {"gate_threshold": math.inf}, "finite"),
    "negative preference": ("Politeness", {"preference": -1}, "below the minimum"),
    "gate that is a model": ("Politeness", {"gate": object()}, "GDPO_REWARD"),
}


@pytest.mark.parametrize("case", DEFINITIONS)
def test_reward_that_could_do_harm_is_refused(case, fence):
    kind, inputs, message = DEFINITIONS[case]
    node = f"GDPODefineReward{kind}"
    refused(lambda: call(node, **{"name": "r", **inputs}), message)


def test_schema_that_refers_to_itself_for_ever_ends(fence):
    parts = {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(60)}
    schema = {"$defs": {**parts, "d60": {}}, "$ref": "#/$defs/d0"}
    (reward,) = call("GDPODefineRewardJSONSchema", name="s", schema=json.dumps(schema))
    refused(lambda: score(reward, "{}"), "took more than|nested|recursion")


def test_format_string_is_only_text(fence):
    (reward,) = call("GDPODefineRewardPattern", name="p", pattern="say {a.__class__.__mro__}")
    assert float(score(reward, "say hello")) == 1.0


def test_gate_chain_is_limited(fence):
    gate = None
    for _ in range(17):
        (gate,) = call("GDPODefineRewardPoliteness", name="g", **({"gate": gate} if gate else {}))
    refused(lambda: call("GDPODefineRewardPoliteness", name="g", gate=gate), "limited to 16")


# --- prompt files ----------------------------------------------------------------------------------------

FILES = {
    "deep.jsonl": (b'{"prompt": ' + b"[" * 100_000, "nested too deeply|not valid JSON"),
    "object.jsonl": (b'{"a":' * 50_000, "nested too deeply|not valid JSON"),
    "nan.jsonl": (b'{"prompt": "x", "a": NaN}', "NaN is not a JSON number"),
    "number.jsonl": (b'{"prompt": "x", "a": 1e999}', "too large"),
    "digits.jsonl": (b'{"prompt": "x", "a": ' + b"9" * 900_000 + b"}", "not usable"),
    "surrogate.jsonl": (b'{"prompt": "\\ud800"}', "surrogate"),
    "row.jsonl": (b'{"prompt": "' + b"a" * 2_000_000 + b'"}', "longer than"),
    "long.txt": (b"a" * 200_000, "at most 100000"),
    "size.txt": (b"a\n" * (33 * 2**20), "more than 64 MiB"),
    "binary.txt": (b"\xff\xfe\x00\x01", "not UTF-8"),
    "role.jsonl": (b'{"prompt": [{"role": "root", "content": "x"}]}', "role must be one of"),
    "quotes.csv": (b'prompt\n"' + b"a" * 200_000, "not valid CSV"),
    "wide.csv": (b"prompt" + b"," * 1000 + b"\nx", "at most 1000 are allowed"),
    "empty.csv": (b"", "holds no prompt"),
}


@pytest.mark.parametrize("name", FILES)
def test_prompt_file_that_could_do_harm_is_refused(name, fence):
    content, message = FILES[name]
    (fence.folders.inputs / name).write_bytes(content)
    refused(lambda: call("GDPOLoadPrompts", file=name), message, errors.PromptError)


# --- models --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("honest"))


@pytest.fixture
def model(honest, fence):
    """A copy of an honest model in the models folder, for the attack to change."""
    folder = fence.folders.models[0] / "model"
    folder.mkdir()
    for file in honest.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_cached_model_is_loaded_by_its_id_without_asking_the_hub(honest, fence, monkeypatch):
    import huggingface_hub.constants

    cache = fence.folders.models[0] / "cache"
    repository = cache / "models--org--small"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    for number, file in enumerate(honest.iterdir()):  # as the hub's library lays it out
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


def change(file: Path, **entries) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **entries}))


def no_weights(folder: Path, fence: Fence) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def pickled(folder: Path, fence: Fence) -> None:
    import pickle

    class Payload:
        def __reduce__(self):
            return (os.putenv, ("GDPO_STRANGER_RAN", "1"))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))


def own_code(folder: Path, fence: Fence) -> None:
    code = "import os\nos.environ['GDPO_STRANGER_RAN'] = '1'\nclass C: pass\nclass M: pass\n"
    (folder / "evil.py").write_text(code)
    auto_map = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}
    change(folder / "config.json", model_type="evil", auto_map=auto_map)


def header(folder: Path, length: int, text: bytes = b"") -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + text)


def index(folder: Path, shard: object) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    change(folder / "model.safetensors.index.json", weight_map={"lm_head.weight": shard})


def linked(folder: Path, name: str, target: Path) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(target)
    _watched["seen"].clear()  # this was the test's own doing


def template(folder: Path, text: str) -> None:
    (folder / "chat_template.jinja").write_text(text)


def offsets(folder: Path, fence: Fence) -> None:
    tensor = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    text = json.dumps({"lm_head.weight": tensor}).encode()
    header(folder, len(text), text)


MODELS: dict[str, tuple[Callable[[Path, Fence], object], str]] = {
    "pickle instead of safetensors": (pickled, "no \\*.safetensors"),
    "weights in another format": (no_weights, "no \\*.safetensors"),
    "code of its own": (own_code, "names code"),
    "kernel from the hub": (
        lambda folder, _: change(folder / "config.json", attn_implementation="attacker/kernel"),
        "code from outside",
    ),
    "kernel in a part": (
        lambda folder, _: change(
            folder / "config.json", text_config={"_attn_implementation": "attacker/kernel:f"}
        ),
        "code from outside",
    ),
    "another base": (
        lambda folder, fence: change(
            folder / "adapter_config.json",
            base_model_name_or_path=str(fence.outside),
            peft_type="LORA",
        ),
        "holds an adapter",
    ),
    "weights elsewhere": (
        lambda folder, fence: index(folder, str(fence.outside / "x.safetensors")),
        "outside the model's folder",
    ),
    "weights above": (
        lambda folder, _: index(folder, "../../outside/x.safetensors"),
        "outside the model's folder",
    ),
    "pickled shard": (lambda folder, _: index(folder, "model.bin"), "another format"),
    "shard that is a number": (lambda folder, _: index(folder, 5), "outside the model's folder"),
    "vocabulary elsewhere": (
        lambda folder, fence: change(
            folder / "tokenizer_config.json", vocab_file=str(fence.outside / "secret.txt")
        ),
        "names a file outside",
    ),
    "tokenizer by symlink": (
        lambda folder, fence: linked(folder, "tokenizer.json", fence.outside / "tokenizer.json"),
        "symlink",
    ),
    "template by symlink": (
        lambda folder, fence: linked(folder, "chat_template.jinja", fence.outside / "secret.txt"),
        "symlink",
    ),
    "ring of symlinks": (
        lambda folder, _: linked(folder, "merges.txt", folder / "merges.txt"),
        "symlink",
    ),
    "device for weights": (
        lambda folder, _: linked(folder, "model.safetensors", Path("/dev/zero")),
        "it is a device, not a file",
    ),
    "header without end": (lambda folder, _: header(folder, 2**63), "cannot be loaded|asks for"),
    "header cut off": (lambda folder, _: header(folder, 10**9, b"{" * 99_999), "cannot be loaded"),
    "header of brackets": (
        lambda folder, _: header(folder, 99_999, b"[" * 99_999),
        "cannot be loaded",
    ),
    "tensor beyond the file": (offsets, "cannot be loaded|asks for"),
    "config that is no object": (
        lambda folder, _: (folder / "config.json").write_text("[1]"),
        "JSON object",
    ),
    "config nested deeply": (
        lambda folder, _: (folder / "config.json").write_text('{"a":' * 50_000),
        "cannot be read",
    ),
    "thousand million layers": (
        lambda folder, _: change(folder / "config.json", num_hidden_layers=10**9),
        "asks for over",
    ),
    "layers a million wide": (
        lambda folder, _: change(folder / "config.json", hidden_size=10**6),
        "asks for over",
    ),
    "vocabulary of a thousand million": (
        lambda folder, _: change(folder / "config.json", vocab_size=10**9),
        "asks for over",
    ),
    "template with a power": (
        lambda folder, _: template(folder, "{{ 9**(9**(9**9)) }}"),
        "chat template",
    ),
    "template with a huge text": (
        lambda folder, _: template(folder, "{{ 'a' * 99999999999 }}"),
        "chat template",
    ),
    "template that is too long": (
        lambda folder, _: template(folder, "x" * 300_000),
        "chat template",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_model_that_could_do_harm_is_refused(case, fence, model):
    attack, message = MODELS[case]
    attack(model, fence)
    refused(
        lambda: call("GDPOLoadModel", model="model", device="cpu"),
        message,
        (errors.PolicyError, errors.WorkflowError),
    )


TEMPLATES = {
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.environ.update(GDPO_STRANGER_RAN='1') }}",
    "format": "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "change of the messages": "{% set _ = messages.append(1) %}",
    "file": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os.system('true') }}",
    "broken": "{% for %",
    "endless loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "endless recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "gigabytes": "{{ 'a'*1000000*4000 }}",
    "endless words": "{{ lipsum(n=1000000) }}",
    "endless range": "{% for a in range(999999) %}x{% endfor %}",
}


@pytest.mark.parametrize("case", TEMPLATES)
def test_chat_template_can_neither_reach_python_nor_take_for_ever(case, fence, model):
    template(model, TEMPLATES[case])

    def use() -> None:
        (policy,) = call("GDPOLoadModel", model="model", device="cpu")
        chat.render_prompt(policy.base.tokenizer, PROMPT)

    refused(use, "chat template")


# --- GGUF files ----------------------------------------------------------------------------------------

needs_llama = pytest.mark.skipif(
    runtime.runtime_version() is None, reason="llama-cpp-python is not installed"
)
GGUFS = {
    "text": SECRET.encode(),
    "empty": b"",
    "magic alone": b"GGUF",
    "other version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0),
    "endless tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 1),
    "endless key": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + b"x" * 100,
    "nothing in it": b"GGUF" + struct.pack("<IQQ", 3, 0, 0) + bytes(200),
}


@needs_llama
@pytest.mark.parametrize("case", GGUFS)
def test_malformed_gguf_is_refused_and_the_process_lives(case, fence):
    path = fence.folders.output / "x.gguf"
    path.write_bytes(GGUFS[case])
    refused(lambda: call("GDPOChat", gguf=export.GGUF(path, "F16", {}), message="x"), "gguf")


@pytest.fixture(scope="module")
def small_gguf(honest, tmp_path_factory) -> Path:
    """An honest model as a file."""
    policy = submodule("gdpo.policies.loading").load_policy(honest, device="cpu")
    return export.export_gguf(policy, tmp_path_factory.mktemp("gguf"), "m", types=("F32",))[0].path


@needs_llama
@pytest.mark.parametrize(
    "case",
    ["classes", "globals", "format", "endless recursion", "gigabytes", "endless words"],
)
def test_chat_template_in_a_gguf_can_neither_reach_python_nor_take_for_ever(
    case, fence, small_gguf
):
    from gguf import GGUFReader, GGUFWriter

    path = fence.folders.output / "attack.gguf"
    path.write_bytes(small_gguf.read_bytes())
    field = GGUFReader(path).get_field("tokenizer.chat_template")
    length = len(field.parts[field.data[0]])
    text = TEMPLATES[case].encode().ljust(length)  # of the same length, so that nothing else moves
    assert len(text) == length
    old = bytes(field.parts[field.data[0]])
    path.write_bytes(path.read_bytes().replace(old, text))
    assert GGUFWriter is not None
    refused(
        lambda: call("GDPOChat", gguf=export.GGUF(path, "F32", {}), message="x"),
        "chat template|RecursionError|SIGXCPU",
        errors.InferenceError,
    )


# --- workflow files --------------------------------------------------------------------------------------


def graph(**changes) -> dict:
    """The quick-start graph with inputs of the training replaced."""
    made = json.loads(QUICK_START.read_text(encoding="utf-8"))
    made["8"]["inputs"] |= {"run_name": "a", **TINY, **changes}
    return made


def without(made: dict, node_id: str, **changes) -> dict:
    return {**made, node_id: {**made[node_id], **changes}}


def gate(made: dict, node_id: str, source: str) -> dict:
    return without(made, node_id, inputs={**made[node_id]["inputs"], "gate": [source, 0]})


GRAPHS = {
    "cycle of gates": (lambda: gate(gate(graph(), "4", "5"), "5", "4"), "cycle"),
    "gate on itself": (lambda: gate(graph(), "4", "4"), "cycle"),
    "gate on a model": (lambda: gate(graph(), "4", "1"), "GDPO_REWARD"),
    "thousand million steps": (lambda: graph(steps=10**9), "above the maximum"),
    "NaN": (lambda: graph(learning_rate=math.nan), "finite"),
    "path as run name": (lambda: graph(run_name="../../outside/x"), "plain name"),
    "object for a name": (lambda: graph(run_name={"a": 1}), "must be text"),
    "link to nowhere": (lambda: graph(model=["../../x", 0]), "not in the workflow"),
    "negative output": (lambda: graph(model=["1", -1]), "linked to output -1"),
    "NaN output": (lambda: graph(model=["1", math.nan]), "linked to output nan"),
    "unknown class": (lambda: without(graph(), "1", class_type="os.system"), "unknown node class"),
    "class that is a list": (lambda: without(graph(), "1", class_type=["x"]), "class_type"),
    "node that is a text": (lambda: {**graph(), "1": "x"}, "class_type"),
    "inputs that are a list": (lambda: without(graph(), "1", inputs=[1]), "inputs must be"),
    "attribute as input": (lambda: graph(__class__=1), "no input '__class__'"),
    "hidden input": (lambda: graph(unique_id="../../outside"), "no input 'unique_id'"),
    "node of another pack": (
        lambda: {**graph(), "x": {"class_type": "PreviewAny", "inputs": {}}},
        "unknown",
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graph_that_could_do_harm_is_refused_before_anything_runs(case, fence):
    make, message = GRAPHS[case]
    with pytest.raises(errors.WorkflowError, match=message):
        workflow.run_workflow(make(), NODES)
    assert list(fence.folders.output.iterdir()) == []


WORKFLOW_FILES = {
    "brackets": "[" * 1_000_000,
    "objects": '{"1":' * 200_000,
    "doubled node": '{"1": {}, "1": {}}',
    "digits": '{"1": {"class_type": "x", "inputs": {"a": ' + "9" * 100_000 + "}}}",
    "infinity": '{"1": Infinity}',
    "number": "1e400",
    "NUL": "\0",
}


@pytest.mark.parametrize("case", WORKFLOW_FILES)
def test_workflow_file_that_is_a_bomb_is_refused(case, fence, tmp_path):
    path = tmp_path / "models" / "graph.json"
    path.write_text(WORKFLOW_FILES[case])
    refused(lambda: workflow_file.read_workflow(path), "graph.json", errors.WorkflowError)


SETTINGS = {
    "run name": ("8.run_name=../../outside/x", "plain name"),
    "node path": ("../../outside.x=1", "no node"),
    "attribute": ("8.__class__=x", "no input"),
    "class": ("8.class_type=os.system", "no input"),
    "NaN": ("8.learning_rate=NaN", "must be a number"),
    "number bomb": ("8.steps=" + "9" * 10_000, "above the maximum|whole number"),
    "brackets": ("8.steps=" + "[" * 100_000, "whole number|must be|link"),
    "link to itself": ('8.model=["8", 0]', "cycle"),
    "no value": ("8.steps", "NODE.INPUT=VALUE"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_setting_of_the_command_line_is_checked_like_a_file(case, fence):
    setting, message = SETTINGS[case]

    def work():
        workflow.run_workflow(workflow_file.apply_settings(graph(), [setting], NODES), NODES)

    with pytest.raises(errors.WorkflowError, match=message) as caught:
        work()
    assert all(len(line) < 1500 for line in str(caught.value).splitlines())
    assert list(fence.folders.output.iterdir()) == []


# --- the source itself -----------------------------------------------------------------------------------

HTML = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|DOMParser"
    r"|createContextualFragment|setHTMLUnsafe|\bimport\(|https?://(?!www\.w3\.org/)"
)
COMMENTS = re.compile(r"/\*.*?\*/|^\s*//.*?$", re.DOTALL | re.MULTILINE)  # types stand there


def test_page_shows_texts_as_texts_and_loads_nothing_from_elsewhere():
    files = [path for path in (ROOT / "web").rglob("*") if path.suffix in {".js", ".mjs", ".html"}]
    assert files
    for path in files:
        code = COMMENTS.sub("", path.read_text(encoding="utf-8"))
        assert not HTML.findall(code), path
    assert HTML.findall("box.innerHTML = text; /* import('x') */ await import('x'); eval('x')")


def test_help_pages_hold_no_html_that_runs():
    for path in (ROOT / "web").rglob("*.md"):
        assert not re.findall(r"<script|javascript:|\son\w+=|<iframe", path.read_text("utf-8")), (
            path
        )


SOURCES = sorted([*(ROOT / "nodes").rglob("*.py"), *(ROOT / "gdpo").rglob("*.py")])


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system"}
FORBIDDEN_CALLS |= {"torch.load", "pickle.load", "pickle.loads"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "requests", "aiohttp"}


def risks(code: str) -> list[str]:
    """Calls and imports in `code` that run, unpickle or fetch what a stranger may have written."""
    found = []
    for item in ast.walk(ast.parse(code)):
        if isinstance(item, ast.Call):
            options = {keyword.arg: keyword.value for keyword in item.keywords}
            trusting = [
                f"{name}={ast.unparse(value)}"
                for name, value in options.items()
                if name in {"shell", "trust_remote_code"} and ast.unparse(value) != "False"
            ]
            found += trusting + [ast.unparse(item.func)] * (
                ast.unparse(item.func) in FORBIDDEN_CALLS
            )
        modules = [alias.name for alias in item.names] if isinstance(item, ast.Import) else []
        modules += [item.module or ""] if isinstance(item, ast.ImportFrom) else []
        found += sorted(FORBIDDEN_MODULES & set(modules))
    return found


def test_source_never_evaluates_unpickles_or_trusts_code():
    assert risks("import pickle; eval('1'); run(x, shell=True)") == ["pickle", "eval", "shell=True"]
    found = {str(path): risks(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {path: what for path, what in found.items() if what} == {}


# --- the server ------------------------------------------------------------------------------------------

SERVER = os.environ.get("GDPO_COMFYUI", "").rstrip("/")


def ask(path: str, data: object = None) -> tuple[int, dict]:
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(SERVER + path, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def queue(made: dict) -> str:
    """What the server says to a graph: the error of validation, or of the node that failed."""
    status, answer = ask("/prompt", {"prompt": made})
    if status != 200 or answer.get("node_errors"):
        return json.dumps(answer)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = ask(f"/history/{answer['prompt_id']}")[1].get(answer["prompt_id"])
        if found:
            assert found["status"]["status_str"] == "error", "the attack was carried out"
            return json.dumps(found["status"]["messages"][-1])
        time.sleep(0.1)
    raise AssertionError("the server did not finish")


def any_typed(**changes) -> dict:
    """The training gets values through an any-type output, which no validation looks at."""
    made = graph()
    for number, (name, value) in enumerate(changes.items()):
        made[f"any{number}"] = {"class_type": "PrimitiveString", "inputs": {"value": value}}
        made["8"]["inputs"][name] = [f"any{number}", 0]
    return made


SERVED = {
    "parent": (lambda: graph(run_name="../../x"), "plain name"),
    "absolute": (lambda: graph(run_name="/tmp/x"), "plain name"),
    "NUL byte": (lambda: graph(run_name="a\0b"), "plain name|NUL"),
    "Windows device": (lambda: graph(run_name="nul.txt"), "Windows reserves"),
    "very long": (lambda: graph(run_name="x" * 100_000), "longer than"),
    "linked run name": (lambda: any_typed(run_name="../../../x"), "plain name"),
    "steps": (lambda: graph(steps=10**9), "bigger than|above"),
    "text for a number": (lambda: graph(steps="many"), "invalid|convert"),
    "NaN": (lambda: graph(learning_rate="nan"), "finite"),
    "hub path": (
        lambda: without(graph(), "1", inputs={"model": STARTER, "hub_model": "../../x"}),
        "hub_model",
    ),
    "hub URL": (
        lambda: without(
            graph(), "1", inputs={"model": STARTER, "hub_model": "https://x.example/m"}
        ),
        "hub_model",
    ),
    "download": (
        lambda: without(graph(), "1", inputs={"model": STARTER, "hub_model": "no-such/model-here"}),
        "switched off",
    ),
    "prompt file": (lambda: without(graph(), "2", inputs={"file": "../../x.txt"}), "not in"),
    "gates in a ring": (lambda: gate(gate(graph(), "4", "5"), "5", "4"), "."),
    "model from a text": (lambda: any_typed(model="/etc/passwd"), "mismatch|GDPO_MODEL"),
    "catastrophic pattern": (
        lambda: without(
            graph(),
            "4",
            class_type="GDPODefineRewardPattern",
            inputs={"name": "p", "pattern": "(a{1000}){1000}", "syntax": "regex"},
        ),
        "too often",
    ),
    "remote schema": (
        lambda: without(
            graph(),
            "4",
            class_type="GDPODefineRewardJSONSchema",
            inputs={"name": "p", "schema": '{"$ref": "http://x.example"}'},
        ),
        "inside the schema",
    ),
    "node id": (
        lambda: {
            **graph(run_name="../x"),
            "../../x": {"class_type": "GDPOLoadModel", "inputs": {"model": STARTER}},
        },
        "plain name",
    ),
}


@pytest.mark.comfyui
@pytest.mark.skipif(not SERVER, reason="GDPO_COMFYUI holds no address of a running ComfyUI")
@pytest.mark.parametrize("case", SERVED)
def test_server_refuses_and_lives(case):
    make, message = SERVED[case]
    made = make()
    for output in ("10", "11", "12"):  # the training and its plot are enough
        made.pop(output)
    said = queue(made)
    assert re.search(message, said), said
    assert ask("/system_stats")[0] == 200
