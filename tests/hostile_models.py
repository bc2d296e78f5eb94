"""Changes that turn an honest model's folder into an attack."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

from fence import Fence, forget


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
    forget()


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
    "template with a huge text": (
        lambda folder, _: template(folder, "{{ 'a' * 99999999999 }}"),
        "chat template",
    ),
    "template that is too long": (
        lambda folder, _: template(folder, "x" * 300_000),
        "chat template",
    ),
}


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
