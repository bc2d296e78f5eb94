"""Damaged prompt files, and completions that say anything: own errors alone, and no completion ends a training."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from gdpo.errors import PromptError, RewardError
from gdpo.prompts import Prompt, load_prompts, make_prompt
from gdpo.rewards import (
    SCORERS,
    AnswerMatch,
    Completion,
    Conciseness,
    JSONSchema,
    Keywords,
    Pattern,
    Politeness,
    Repetition,
)
from gdpo.runs.differences import digest_rows

HUGE = "9" * 400
DIGITS = "9" * 5000  # more than Python reads as a whole number
NEW_DIGITS = "\U0001e4f1\U0001e4f2"  # of Unicode 15: newer than some Pythons, older than `regex`

# Texts that are written into files as they are, at any place.
TOKENS = [
    *("NaN", "-Infinity", "1e999", "-1e999", "1e400", "1e-400", HUGE, f"-{HUGE}", DIGITS, "1e308"),
    *("null", "true", "[]", "{}", '""', "[[[]]]", '{"":{}}', "[1e999]", f"[{HUGE}, 0.1]", "0x1"),
    *('"\\ud800"', '"\\udc00\\ud800"', "\\u0000", "\0", "\ufeff", "\u2028", "\x85", "\x1a", "\r"),
    *("\n", "\r\n", "\n\r", '"', "\\", ",", ";", "{", "}", "[", "]", ":", "'", "\t", "`" * 3),
    *("[" * 5000, '{"a":' * 500, "[" * 70 + "]" * 70, "," * 1200, "\u0300" * 200, NEW_DIGITS, "ﷺ"),
    *('"prompt": "again", ', '"reference": "again", ', '"reference": 1e400, ', "x" * 30_000),
    *(f'"reference": {HUGE}, ', f'"reference": [{HUGE}, 0.5], ', '"reference": {}, '),
]
SCHEMAS: list[dict] = [
    {"items": {"multipleOf": 0.3}},
    {"items": {"multipleOf": 0.01, "minimum": -1e308, "exclusiveMaximum": 1e308}},
    {"items": {"multipleOf": 5e-324}},
    {"items": {"multipleOf": 3}},
    {"items": {"multipleOf": 10**400}},
    {"items": {"multipleOf": 1.5e308, "type": "number"}},
    {"$schema": "http://json-schema.org/draft-03/schema#", "items": {"divisibleBy": 0.3}},
    {"$schema": "http://json-schema.org/draft-04/schema#", "items": {"multipleOf": 0.3}},
    {"uniqueItems": True, "contains": {"type": "integer"}, "maxContains": 2},
    {"items": {"enum": [1, 1.0, 10**400, True, "x", [1], {"a": 1}]}},
    {"prefixItems": [{"const": 1e308}], "unevaluatedItems": {"maximum": 10**400}},
    {"additionalProperties": {"pattern": "^[a-z]+$", "minLength": 10**400}},
    {"propertyNames": {"pattern": "^a"}, "unevaluatedProperties": False, "maxProperties": 3},
    {"type": "array", "maxItems": 10**400, "minItems": 0.0},
]
KINDS = [
    *(Conciseness(unit=unit) for unit in ("words", "characters", "tokens")),
    Politeness(),
    Keywords("router, 再起動", forbidden="idiot", field="reference"),
    Keywords("1,5", enough="any"),
    *(Pattern(), Pattern("{a}:{b}", ignore_case=True), Pattern(r"[^a](\d)\w?$", "regex")),
    *(JSONSchema(json.dumps(schema)) for schema in SCHEMAS),
    *(AnswerMatch(mode=mode, partial_credit=True) for mode in ("contains", "exact")),
    AnswerMatch(mode="numeric", tolerance=1e12),
    *(Repetition(), Repetition(size=20)),
]
NUMBERS = [
    *("1e999", "-1e999", "1e400", HUGE, f"-{HUGE}", "9" * 4300, DIGITS, "1e308", "1.7e308", "-0.0"),
    *("1e-999", "5e-324", "0." + DIGITS, f"{HUGE}.5", f"1e{DIGITS}", "NaN", "Infinity", "0.1"),
    *(
        NEW_DIGITS,
        f"1{NEW_DIGITS}",
        f"1.{NEW_DIGITS}",
        f"5e{NEW_DIGITS}",
        "١٢٣",
        "５",
        "1,000e99999",
    ),
    *("1" + ",000" * 2000, "-" * 5000 + "1", "1e", "1e+", ".5", "5."),
]
COMPLETIONS = [
    *NUMBERS,
    *(f"[{number}]" for number in NUMBERS),
    *(f'{{"a": {number}}}' for number in NUMBERS),
    *(f"[{number}, {number}, 1]" for number in NUMBERS),
    *("", " ", "\0", "\ufeff[1]", "[1,]", "[" * 100_000, "{" * 3000, '["\\ud800"]', '{"\\udfff": 1}'),
    *('{"a": 1, "a": 1e999}', "```json\n[1e999]\n```", "```" * 5000, "```[" * 5000, "[[1e999]]"),
    *("\ud800", "\u0300" * 5000, "a" * 200_000, "[" + "1e999," * 20_000 + "1]", "あ" * 50_000),
    *("ﷺ" * 5000, "{}" * 5000, "the router 再起動 5", "\r\n" * 5000, "Problem: x Solution: y"),
    "[" + ", ".join(f'{{"a": [{n}, "b"]}}' for n in range(3000)) + "]",
]  # fmt: skip


def rows(random_: random.Random) -> list[dict]:
    references = ["reboot it", "5", 5, 0.5, ["a", "b c"], "再起動, 電源", None, -3e300]
    return [
        {"prompt": f"the printer {n}", "reference": random_.choice(references), "n": n}
        for n in range(random_.randrange(1, 6))
    ]


def as_jsonl(made: list[dict]) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in made)


def as_csv(made: list[dict]) -> str:
    cell = lambda value: '"' + str(value).replace('"', '""') + '"'
    lines = [",".join(map(cell, row.values())) for row in made]
    return "\n".join(["prompt,reference,n", *lines])


def as_txt(made: list[dict]) -> str:
    return "\n".join(row["prompt"] for row in made)


WRITERS = {"x.jsonl": as_jsonl, "x.csv": as_csv, "x.txt": as_txt}


def flip(random_: random.Random, data: bytes) -> bytes:
    place = random_.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random_.randrange(8)]) + data[place + 1 :]


def cut(random_: random.Random, data: bytes) -> bytes:
    return data[: random_.randrange(1, len(data) + 1)]


def insert(random_: random.Random, data: bytes) -> bytes:
    place = random_.randrange(len(data) + 1)
    return data[:place] + _token(random_) + data[place:]


def value(random_: random.Random, data: bytes) -> bytes:
    """Put a token where a value is, so that the row is often still one."""
    parts = data.split(b'"reference": ')
    if len(parts) == 1:
        return insert(random_, data)
    number = random_.randrange(1, len(parts))
    rest = parts[number].partition(b', "n"')
    parts[number] = _token(random_) + rest[1] + rest[2]
    return b'"reference": '.join(parts)


def wrap(random_: random.Random, data: bytes) -> bytes:
    """Change what is around the rows: marks, line ends, encodings."""
    ways: list[Callable[[bytes], bytes]] = [
        lambda d: b"\xef\xbb\xbf" + d,
        lambda d: b"\xef\xbb\xbf" * 2 + d,
        lambda d: d.replace(b"\n", random_.choice([b"\r", b"\r\n", b"\n\n", b"\n\r", b"\0"])),
        lambda d: d.decode("utf-8", "replace").encode("utf-16"),
        lambda d: d + b"\n" + d,
        lambda d: d + random_.randbytes(4),
    ]
    return random_.choice(ways)(data)


def _token(random_: random.Random) -> bytes:
    return random_.choice(TOKENS).encode()


def damaged(random_: random.Random, folder: Path) -> Path:
    """An honest file that was changed in a few places."""
    name = random_.choice(["x.jsonl", "x.jsonl", "x.csv", "x.txt"])
    data = WRITERS[name](rows(random_)).encode()
    for _ in range(random_.randrange(4)):
        data = random_.choice([flip, cut, insert, value, value, wrap])(random_, data) or b"x"
    (folder / name).write_bytes(data)
    return folder / name


def scored(scorer, prompt: Prompt, text: str) -> float | None:
    found = scorer.score(prompt, Completion(text, len(text)))
    if found is not None:
        bottom, top = scorer.value_range
        assert bottom <= found <= top
    return found


def test_every_kind_is_here():
    assert {type(scorer) for scorer in KINDS} == set(SCORERS.values())


@pytest.mark.parametrize("scorer", KINDS, ids=repr)
def test_whatever_a_completion_says_it_scores(scorer):
    prompt = make_prompt("x", fields={"reference": ["5", "it takes 7"]})
    for text in COMPLETIONS:
        assert scored(scorer, prompt, text) is not None, ascii(text[:60])


def test_a_damaged_prompt_file_ends_in_prompts_that_score_or_in_own_errors(pytestconfig, tmp_path):
    random_, cases = random.Random(0), pytestconfig.getoption("--cases") or 200
    messages: list[str] = []
    ends = {"read": 0, "refused": 0, "wrong reference": 0}
    for _ in range(cases):
        file = damaged(random_, tmp_path)
        try:
            prompts = load_prompts(file)
        except PromptError as error:
            ends["refused"] += 1
            messages.append(str(error))
            continue
        ends["read"] += 1
        assert len(digest_rows(prompts)) > 0  # as `run.json` holds them
        for prompt in prompts[:3]:
            for scorer in random_.sample(KINDS, 5):
                ends["wrong reference"] += not _scores(random_, scorer, prompt)
    assert not any("\n" in message or len(message) > 1000 for message in messages)
    assert min(ends["read"], ends["refused"]) > cases // 5, f"too mild or too wild: {ends}"
    assert ends["wrong reference"] > 0


def _scores(random_: random.Random, scorer, prompt: Prompt) -> bool:
    """Whether the prompt can be scored; if so, every completion of it must be."""
    try:
        usual = scored(scorer, prompt, "reboot it 5")
    except RewardError:  # of the reference, which is not the completion's fault
        return False
    for text in random_.sample(COMPLETIONS, 3):
        assert (scored(scorer, prompt, text) is None) == (usual is None), ascii(text[:60])
    return True
