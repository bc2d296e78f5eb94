"""Prompt files are read by their content, whatever their ending: a table of small files with what is read."""

from __future__ import annotations

import gzip
import io
import json
import zipfile

import pytest

from gdpo.errors import PromptError
from gdpo.progress import Progress
from gdpo.prompts import load_prompts

LINES = '{"prompt": "a", "n": 1}\n{"prompt": "b", "n": 2}\n'
ARRAY = '[{"prompt": "a", "n": 1}, {"prompt": "b", "n": 2}]'
PRETTY = json.dumps(json.loads(ARRAY), indent=2)
COMMAS, SEMICOLONS, TABS = "prompt,n\na,1\nb,2\n", "prompt;n\na;1\nb;2\n", "prompt\tn\na\t1\nb\t2\n"
CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "A"}]
SHARED = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "A"}]


class Told(Progress):
    """Keeps the notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def load(folder, name: str, content: str | bytes, **options):
    """The prompts of a file, and what was told."""
    path, told = folder / name, Told()
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return load_prompts(path, progress=told, **options), " ".join(told.notices)


# Name, content, texts of the prompts, and a part of the notice; "" where there is nothing to tell.
READ = [
    ("x.jsonl", LINES, ["a", "b"], ""),
    ("x.jsonl.txt", LINES, ["a", "b"], "'x.jsonl.txt' is read as JSON lines."),
    ("x.txt", LINES, ["a", "b"], "read as JSON lines"),
    ("x.json", LINES, ["a", "b"], "read as JSON lines"),
    ("x.csv", LINES, ["a", "b"], "read as JSON lines"),
    ("x", LINES, ["a", "b"], "read as JSON lines"),
    ("x.txt", LINES.replace("}\n{", "}\n\n  {"), ["a", "b"], "read as JSON lines"),
    ("x.jsonl.txt", '{"prompt": "a"}', ["a"], "read as JSON lines"),
    ("x.txt", '{"prompt": "a"}', ["a"], "read as JSON."),
    ("x.json", ARRAY, ["a", "b"], ""),
    ("x.jsonl", ARRAY, ["a", "b"], "read as JSON."),
    ("x.txt", ARRAY, ["a", "b"], "read as JSON."),
    ("x.csv", ARRAY, ["a", "b"], "read as JSON."),
    ("x.json", PRETTY, ["a", "b"], ""),
    ("x.jsonl", PRETTY, ["a", "b"], "read as JSON."),
    ("x.json.txt", "\ufeff\n" + PRETTY, ["a", "b"], "read as JSON."),
    ("x.jsonl", "[\n" + LINES.replace("}\n{", "},\n{") + "]\n", ["a", "b"], "read as JSON."),
    ("x.txt", PRETTY.replace("\n", "\r\n"), ["a", "b"], "read as JSON."),
    ("x.json", '["a", "b"]', ["a", "b"], ""),
    ("x.json", '{"data": ' + ARRAY + "}", ["a", "b"], "whose rows are in 'data'"),
    ("x.json", json.dumps({"version": 1, "tags": ["t"], "rows": json.loads(ARRAY)}, indent=1),
     ["a", "b"], "whose rows are in 'rows'"),
    ("x.txt", '{"note": {"a": [1]}, "train": ' + ARRAY + "}", ["a", "b"], "in 'train'"),
    ("x.jsonl", '{"data": ' + ARRAY + "}", ["a", "b"], "in 'data'"),
    ("x.json", '{"prompt": "a",\n "tools": [{"name": "t"}]}', ["a"], ""),
    ("x.json", '{"prompt": "a"}\n{\n"prompt": "b"\n}', ["a", "b"], ""),
    ("x.json", '{"prompts": ["a", "b"]}', ["a", "b"], "whose rows are in 'prompts'"),
    ("x.jsonl", '{"prompt": "a"} {"prompt": "b"}', ["a", "b"], "read as JSON."),
    ("x.txt", "Text, please", ["Text, please"], ""),
    ("x.csv", COMMAS, ["a", "b"], ""),
    ("x.csv", SEMICOLONS, ["a", "b"], ""),
    ("x.csv", TABS, ["a", "b"], ""),
    ("x.csv", "sep=;\n" + SEMICOLONS, ["a", "b"], ""),
    ("x.tsv", TABS, ["a", "b"], ""),
    ("x.tsv", COMMAS, ["a", "b"], ""),
    ("x.txt", COMMAS, ["a", "b"], "read as CSV"),
    ("x.csv.txt", SEMICOLONS, ["a", "b"], "read as CSV"),
    ("x.jsonl", TABS, ["a", "b"], "read as CSV"),
    ("x.csv", "prompt,a;b\nx; y,1\n", ["x; y"], ""),
    ("x.csv", "prompt\nHi; you\n", ["Hi; you"], ""),
    ("x.txt", 'prompt;n\n"a; b\nc";1\n', ["a; b\nc"], "read as CSV"),
    ("x.txt", "prompt\na\n", ["prompt", "a"], ""),
    ("x.txt", "Hi, you\nText, please, now\n", ["Hi, you", "Text, please, now"], ""),
    ("x.txt", "[INST] a [/INST]\n[INST] b [/INST]\n", ["[INST] a [/INST]", "[INST] b [/INST]"], ""),
    ("x.txt", "[1] a\n[2] b\n", ["[1] a", "[2] b"], ""),
    ("x.txt", "{name} is late.\n", ["{name} is late."], ""),
    ("x.txt", '{"a": 1} as YAML?\n[1, 2] sorted?\n', ['{"a": 1} as YAML?', "[1, 2] sorted?"], ""),
    ("x.txt", '[{"a": 1}] as a table?\n', ['[{"a": 1}] as a table?'], ""),
    ("x.txt", '{"a": 1}\nmore\n', ['{"a": 1}', "more"], ""),
    ("x.txt", "[1, 2, 3]\n", ["[1, 2, 3]"], ""),
    ("x.txt", "[a\n", ["[a"], ""),
    ("x.md", "a\nb\n", ["a", "b"], "read as plain text"),
    ("x.jsonl", "a\nb\n", ["a", "b"], "read as plain text"),
    ("x.jsonl", json.dumps({"messages": CHAT}), ["a"], "from 'messages'; the assistant's last"),
    ("x.json", json.dumps([{"conversations": SHARED}], indent=1), ["a"], "from 'conversations'"),
    ("x.json", json.dumps({"messages": CHAT[:1]}), ["a"], "taken from 'messages'."),
    ("x.jsonl", '{"question": "a", "answer": "A"}\n', ["a"], "no column 'prompt'"),
    ("x.csv", "Question,answer\na,A\n", ["a"], "taken from 'Question'."),
    ("x.jsonl", '{"instruction": "a", "input": "b"}\n', ["a\n\nb"], "'instruction' and 'input'"),
    ("x.jsonl", '{"instruction": "a", "input": ""}\n', ["a"], "'instruction' and 'input'"),
    ("x.jsonl", '{"problem": "a"}\n', ["a"], "'problem'"),
    ("x.jsonl", '{"query": "a"}\n', ["a"], "'query'"),
    ("x.txt", "text;n\na;1\n", ["a"], "'text'"),
    ("x.jsonl", '{"text": "t", "question": "a"}\n', ["a"], "taken from 'question'."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "texts", "told"), READ)
def test_a_file_is_read_by_its_content(name, content, texts, told, tmp_path):
    prompts, notices = load(tmp_path, name, content)
    assert [prompt.text for prompt in prompts] == texts
    assert told in notices
    assert bool(told) == bool(notices)


def zipped() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("x.jsonl", LINES)
    return made.getvalue()


REFUSED = [
    ("x.jsonl", zipped(), "a Zip archive or a workbook"),
    ("x.jsonl", gzip.compress(LINES.encode(), mtime=0), "compressed by gzip; unpack it"),
    ("x.txt", b"\x89PNG\r\n\x1a\n\0\0", "a PNG image"),
    ("x.txt", b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG image"),
    ("x.txt", b"RIFF\0\0\0\0WEBPVP8 ", "a WebP image"),
    ("x.txt", b"%PDF-1.7\n", "a PDF document"),
    ("x.csv", b"SQLite format 3\0", "an SQLite database; save it as CSV"),
    ("x.jsonl", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
    ("x.jsonl", b"\n<!DOCTYPE html>\n<html>", "a page of the web"),
    ("x.jsonl", LINES.encode("utf-16"), "is in UTF-16; it must be UTF-8. Save the file as UTF-8"),
    ("x.csv", COMMAS.encode("utf-16-le"), "is in UTF-16"),
    ("x.txt", LINES.encode("utf-16-be"), "is in UTF-16"),
    ("x.txt", "abc".encode("utf-32"), "is in UTF-32"),
    ("x.txt", "a\ncafé noir\n".encode("latin-1"), "not UTF-8 at line 2: it seems to be in an older encoding such as Latin-1"),
    ("x.json", json.dumps(["é"], ensure_ascii=False).encode("latin-1"), "such as Latin-1"),
    ("x.csv", "prompt,n\n再起動,1\n".encode("shift-jis"), "Shift JIS"),
    ("x.txt", bytes(range(256)) * 8, "no text at all"),
    ("x.jsonl", '{"prompt": "a", "prompt": "b"}', "names 'prompt' twice"),
    ("x.json", '[{"prompt": "a", "prompt": "b"}]', "row 1: names 'prompt' twice"),
    ("x.json", '{"data": [{"prompt": "a"}], "data": [{"prompt": "b"}]}', "names 'data' twice"),
    ("x.txt", "prompt;prompt\na;b\n", "names a column twice"),
    ("x.json", '{"train": [{"prompt": "a"}], "test": [{"prompt": "b"}]}', "several lists of rows: 'train' and 'test'"),
    ("x.json", PRETTY[:-8], "not valid JSON: the end is missing at line 8. Get the whole file."),
    ("x.txt", PRETTY[:-8], "the end is missing"),
    ("x.json", PRETTY.replace("},", "}"), "not valid JSON: ',' is missing at line 6"),
    ("x.json", "// rows\n" + ARRAY, "a list or an object should begin here at line 1. Mend the file."),
    ("x.json", "null", "a list or an object should begin here"),
    ("x.json", '{"id": 1, "tags": ["a", "b"]}', "no column 'prompt'; columns found: 'id', 'tags'"),
    ("x.json", ARRAY + "x", "found 'x' after the end"),
    ("x.json", '{"prompt": NaN}', "NaN is not a JSON number"),
    ("x.json", "[1, 2]", "2 bad rows in 'x.json': row 1: must be a JSON object"),
    ("x.json", '[{"prompt": "a"}, {"question": "b"}]', "row 2: no column 'prompt'"),
    ("x.json", "[" * 100_000, "nested too deeply"),
    ("x.json", '[{"prompt": "' + "a" * 1_000_000 + '"}]', "row 1: longer than 1000000 characters"),
    ("x.jsonl.txt", LINES + '{"prompt": "c"\n', "line 3: not valid JSON"),
    ("x.txt", LINES + '{"prompt": "c"\n', "line 3: not valid JSON"),
    ("x.txt", LINES.replace("}\n{", "},\n{"), "line 1: not valid JSON"),
    ("x.jsonl", json.dumps({"conversations": [{"from": "tool", "value": "a"}]}), "`from` must be one of"),
    ("x.jsonl", json.dumps({"messages": CHAT[1:]}), "column 'messages' is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "reason"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_cannot_be_read_is_named_for_what_it_is(name, content, reason, tmp_path):
    with pytest.raises(PromptError) as caught:
        load(tmp_path, name, content)
    message = str(caught.value)
    assert reason in message
    assert f"'{name}'" in message
    assert "\n" not in message
    assert len(message) < 400


def test_what_the_assistant_says_last_is_the_reference_unless_there_is_one(tmp_path):
    (prompt,), _ = load(tmp_path, "x.json", json.dumps({"messages": CHAT, "id": 7}))
    assert prompt.messages == (("user", "a"),)
    assert prompt.fields == {"id": 7, "reference": "A"}
    talk = [{"from": "system", "value": "s"}, *SHARED, {"from": "human", "value": "b"}]
    (prompt,), _ = load(tmp_path, "y.json", json.dumps({"conversations": talk}))
    assert prompt.messages == (("system", "s"), ("user", "a"), ("assistant", "A"), ("user", "b"))
    assert prompt.fields == {}
    (prompt,), _ = load(tmp_path, "z.json", json.dumps({"messages": CHAT, "reference": "own"}))
    assert prompt.fields == {"reference": "own"}
    (prompt,), _ = load(
        tmp_path, "z.json", json.dumps({"messages": CHAT}), prompt_column="messages"
    )
    assert prompt.fields == {"reference": "A"}


def test_the_column_that_was_named_is_taken_where_it_is_there(tmp_path):
    content = json.dumps({"instruction": "a", "input": "b", "prompt": "c"})
    (prompt,), told = load(tmp_path, "x.jsonl", content, prompt_column="instruction")
    assert (prompt.text, prompt.fields, told) == ("a", {"input": "b", "prompt": "c"}, "")


def test_a_large_document_is_read_like_a_small_one(tmp_path):
    rows = [{"prompt": f"p{n}", "x": "é" * 900} for n in range(3000)]
    for content in (rows, {"name": "x", "data": rows}):
        prompts, _ = load(tmp_path, "x.json", json.dumps(content, indent=1))
        assert [prompt.text for prompt in prompts] == [row["prompt"] for row in rows]
        assert prompts[-1].line == len(rows)


def test_parquet_is_read_where_pyarrow_is_installed(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"messages": [CHAT, CHAT[:1]], "n": [1, None], "x": [0.5, 1.5]})
    parquet.write_table(table, tmp_path / "x.data", row_group_size=1)
    first, second = load_prompts(tmp_path / "x.data")
    assert (first.text, first.fields) == ("a", {"n": 1, "x": 0.5, "reference": "A"})
    assert (second.text, second.line) == ("a", 2)
    whole = (tmp_path / "x.data").read_bytes()
    with pytest.raises(PromptError, match="cannot be read as Parquet"):
        load(tmp_path, "y.parquet", whole[:-20])


def test_parquet_names_its_remedy_where_pyarrow_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr("gdpo.prompts.parquet.find_spec", lambda _name: None)
    with pytest.raises(PromptError, match="Parquet file, which needs pyarrow: run `pip install"):
        load(tmp_path, "x.jsonl", b"PAR1\0\0\0\0PAR1")
