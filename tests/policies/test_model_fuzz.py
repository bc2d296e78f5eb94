"""Model files that are damaged or made hostile at random: whoever reads them gets tokens or one of the pack's errors.

`--cases N` runs so many; a failure names its case, which the seed makes again.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

from gdpo.errors import PolicyError
from gdpo.policies.chat import encode_prompts
from gdpo.policies.configuration import read_config
from gdpo.policies.loading import load_policy
from gdpo.prompts import make_prompt
from gdpo.starter import MODEL_DIR

CASES = 80
PROMPTS = [make_prompt("hello aaaa"), make_prompt("a", system="b" * 300)]
HONEST = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Pieces of templates, each a bomb or nonsense where it lands well.
PIECES = [
    *("{% for i in range(99999) %}", "{% endfor %}", "{% if", "{{", "}}", "{% set x = x + x %}"),
    *("{{ 'a' * 10**9 }}", "{{ messages * 10**8 }}", "{{ lipsum(n=10**6) }}", "|center(10**9)"),
    *("|tojson(indent=10**8)", "|batch(10**9, 'x')|list", "|replace('a', 'a' * 10**6)", "**99999"),
    *("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", ".__class__", "|format", "|indent(10**9)"),
    *("{% include '/etc/passwd' %}", "{% import 'os' as o %}", "\0", "\ud83d", "{% raw %}", "{#"),
    *("{{ raise_exception('no') }}", "{{ strftime_now('%Y' * 99999) }}", "messages", "loop", "|"),
]
# Values in the place of any value of a JSON file.
VALUES = [
    *(None, True, -1, 0, 1, 10**6, 10**9, 10**30, 1e308, "", "x", "(a+)+$", "a" * 100_000, [], {}),
    *([1], [[]], {"type": "x"}, {"type": "Replace", "pattern": {"String": ""}, "content": "a"}),
    {"type": "Replace", "pattern": {"Regex": "(a|a)*$"}, "content": "b"},
    {
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 99}] * 9,
    },
]


def damage_template(random_: random.Random, text: str) -> str:
    place = random_.randrange(len(text) + 1)
    if random_.random() < 0.4:
        return text[:place] + text[place + random_.randint(1, 10) :]
    return text[:place] + random_.choice(PIECES) + text[place:]


def damage_json(random_: random.Random, content: dict) -> None:
    """Exchange one value; lists of thousands of words are left out, as nothing but words is in them."""
    places = []
    parts: list = [content]
    while parts:
        part = parts.pop()
        entries = part.items() if isinstance(part, dict) else enumerate(part)
        if len(part) > 500:
            continue
        for key, value in entries:
            places.append((part, key))
            if isinstance(value, (dict, list)):
                parts.append(value)
    part, key = random_.choice(places)
    part[key] = random_.choice(VALUES)


def damage(random_: random.Random, folder: Path) -> str:
    """Damage one file, and tell which."""
    name = random_.choice(
        ["tokenizer_config.json"] * 4 + ["tokenizer.json", "config.json", "generation_config.json"]
    )
    file = folder / name
    content = json.loads(file.read_text(encoding="utf-8"))
    if name == "tokenizer_config.json":
        content["chat_template"] = damage_template(random_, HONEST)
    else:
        damage_json(random_, content)
    data = json.dumps(content).encode()
    if random_.random() < 0.1:
        place = random_.randrange(len(data))
        data = data[:place] + bytes([random_.randrange(256)]) + data[place + 1 :]
    file.write_bytes(data)
    return name


def test_damaged_model_files_end_in_tokens_or_in_own_errors(tmp_path, pytestconfig):
    random_, ends = random.Random(0), Counter()
    for case in range(pytestconfig.getoption("cases") or CASES):
        folder = Path(shutil.copytree(MODEL_DIR, tmp_path / "model"))
        name = damage(random_, folder)
        try:
            if name == "config.json":
                read_config(folder)
            encode_prompts(load_policy(folder, device="cpu").base.tokenizer, PROMPTS)
            ends["read"] += 1
        except PolicyError as error:
            ends["refused" if "\n" not in str(error) else "refused in lines"] += 1
        except BaseException as error:
            raise AssertionError(f"case {case}, {name}: {error!r}") from error
        shutil.rmtree(folder)
    assert not ends["refused in lines"]
    assert min(ends["read"], ends["refused"]) > 10, ends
    sys.stdout.write(f"damaged models: {dict(ends)}\n")
