from __future__ import annotations

import json

import pytest

from gdpo.errors import PromptError
from gdpo.prompts import Prompt, lines, load_prompts, loading, make_prompt


@pytest.fixture
def write(tmp_path):
    """Writes text or bytes to a file of the given name and returns its path."""

    def write_file(name: str, content: str | bytes):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def error_of(path, **options) -> str:
    with pytest.raises(PromptError) as caught:
        load_prompts(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_jsonl_rows_become_prompts_with_their_other_columns_and_line_numbers(write):
    path = write(
        "a.jsonl",
        '{"prompt": "Hi", "reference": "reboot", "n": 3, "x": 0.5}\n\n{"prompt": "こんにちは"}\n',
    )
    first, second = load_prompts(path)
    assert first.messages == (("user", "Hi"),)
    assert first.fields == {"reference": "reboot", "n": 3, "x": 0.5}
    assert isinstance(first.fields["n"], int)
    assert isinstance(first.fields["x"], float)
    assert (first.line, second.line) == (1, 3)
    assert second.text == "こんにちは"


def test_conversations_keep_their_messages_and_their_own_system_message(write):
    talk = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Help", "name": "Ann"},
    ]
    path = write("a.jsonl", json.dumps({"prompt": talk}) + '\n{"prompt": "plain"}')
    own, given = load_prompts(path, system="Be brief.")
    assert own.messages == (
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Hello"),
        ("user", "Help"),
    )
    assert own.text == "Help"
    assert given.messages == (("system", "Be brief."), ("user", "plain"))


def test_prompts_made_by_hand_equal_prompts_from_a_file(write):
    path = write("a.jsonl", '{"prompt": "Hi", "reference": "x"}')
    made = make_prompt("Hi", system="Be brief.", fields={"reference": "x"}, line=1)
    assert load_prompts(path, system="Be brief.") == (made,)
    assert isinstance(hash(made), int)


def test_csv_keeps_quoted_commas_and_line_breaks_and_names_rows_by_their_first_line(write):
    path = write("a.csv", 'question,answer\r\n"Hi, you",1\r\n\r\n"two\r\nlines",２\r\nlast,x\r\n')
    first, second, third = load_prompts(path, prompt_column="question")
    assert first == Prompt((("user", "Hi, you"),), {"answer": "1"}, 2)
    assert second == Prompt((("user", "two\nlines"),), {"answer": "２"}, 4)
    assert third.line == 6


def test_txt_takes_each_non_empty_line(write):
    loaded = load_prompts(write("a.TXT", "one\r\n\r\n  two  \n\ttab\n"), prompt_column="ignored")
    assert [(p.text, p.line) for p in loaded] == [("one", 1), ("two", 3), ("tab", 4)]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_mark_and_line_ends_make_no_difference(write, ending, mark):
    rows = ['{"prompt": "one"}', '{"prompt": "two"}']
    loaded = load_prompts(write("a.jsonl", mark + ending.join(rows).encode()))
    assert [(p.text, p.line) for p in loaded] == [("one", 1), ("two", 2)]
    loaded = load_prompts(write("a.csv", mark + ending.join(["prompt,n", "one,1"]).encode()))
    assert [p.text for p in loaded] == ["one"]


def test_unicode_line_separators_inside_a_row_do_not_split_it(write):
    (prompt,) = load_prompts(write("a.jsonl", '{"prompt": "one\u2028two\x85three"}'))
    assert prompt.text == "one\u2028two\x85three"


def test_limit_keeps_the_first_rows_but_checks_all(write):
    path = write("a.txt", "one\ntwo\nthree\n")
    assert [p.text for p in load_prompts(path, limit=2)] == ["one", "two"]
    assert len(load_prompts(path, limit=9)) == 3
    bad = write("a.jsonl", '{"prompt": "one"}\n{"prompt": ""}')
    assert "line 2" in error_of(bad, limit=1)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"prompt": "x"', "not valid JSON (Expecting ',' delimiter at column 15)"),
        ('["x"]', "must be a JSON object"),
        ('"x"', "must be a JSON object"),
        ("7", "must be a JSON object"),
        ('{"question": "x", "n": 1}', "no column 'prompt'; columns found: 'question', 'n'"),
        ("{}", "no column 'prompt'; columns found: none"),
        ('{"prompt": ""}', "column 'prompt' is empty"),
        ('{"prompt": " \\n"}', "column 'prompt' is empty"),
        ('{"prompt": []}', "column 'prompt' is empty"),
        ('{"prompt": null}', "must be a text or a list of messages. Found None"),
        ('{"prompt": 5}', "must be a text or a list of messages. Found 5"),
        ('{"prompt": {"role": "user"}}', "must be a text or a list of messages"),
        ('{"prompt": ["x"]}', "a message must be"),
        ('{"prompt": [{"role": "user"}]}', "a message must be"),
        ('{"prompt": [{"role": "user", "content": [{"type": "text"}]}]}', "a message must be"),
        ('{"prompt": [{"role": "bot", "content": "x"}]}', "role must be one of"),
        ('{"prompt": [{"role": ["user"], "content": "x"}]}', "role must be one of"),
        ('{"prompt": [{"role": "user", "content": " "}]}', "column 'prompt' is empty"),
        (
            '{"prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}',
            "the last message must be the user's. Found role 'assistant'",
        ),
        (
            '{"prompt": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}, '
            '{"role": "user", "content": "z"}]}',
            "a system message must be the first",
        ),
        ('{"prompt": "x", "n": NaN}', "NaN is not a JSON number"),
        ('{"prompt": "x", "n": -Infinity}', "-Infinity is not a JSON number"),
        ('{"prompt": "x", "n": 1e999}', "the number '1e999' is too large"),
        ('{"prompt": "x", "n": ' + "9" * 5000 + "}", "not usable"),
        ('{"prompt": "\\ud83d"}', "half of a surrogate pair"),
        ('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"prompt": "' + "x" * 100_001 + '"}', "the prompt has 100001 characters"),
        ('{"prompt": "x", "y": "' + "y" * 1_000_000 + '"}', "longer than 1000000 characters"),
    ],
    ids=lambda value: value[:30],
)
def test_a_bad_jsonl_row_is_named_by_file_line_and_reason(write, row, reason):
    message = error_of(write("x.jsonl", f'{{"prompt": "good"}}\n{row}\n'))
    assert message.startswith("1 bad row in 'x.jsonl': line 2: ")
    assert reason in message
    assert len(message) < 400


def test_all_bad_rows_are_counted_and_the_first_three_named(write):
    rows = ["{", '{"prompt": "ok"}', "7", '{"prompt": ""}', "[]", "nope"]
    message = error_of(write("x.jsonl", "\n".join(rows)))
    assert message.startswith("5 bad rows in 'x.jsonl': line 1: ")
    assert "; line 3: " in message
    assert "; line 4: " in message
    assert "line 5" not in message
    assert message.endswith("; ...")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("prompt,n\nx,1,2\n", "line 2: the header names 2 columns, the row has 3"),
        ("prompt,n\nx\n", "line 2: the header names 2 columns, the row has 1"),
        ("prompt,n\n ,1\n", "line 2: column 'prompt' is empty"),
        ("name;n\nx;1\n", "no column 'prompt'; columns found: 'name', 'n'"),
        ('prompt\n"open\nend', "line 2: not valid CSV"),
        ('prompt\n"a"b\n', "line 2: not valid CSV"),
        ("prompt,prompt\nx,y\n", "names a column twice"),
        ("prompt\n" + "x" * 140_000, "line 2: not valid CSV"),
        ("prompt\n", "holds no prompt"),
    ],
    ids=lambda value: value[:30],
)
def test_a_bad_csv_file_is_refused(write, content, reason):
    assert reason in error_of(write("x.csv", content))


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.txt"])
@pytest.mark.parametrize("content", ["", "\n \r\n", "\ufeff"])
def test_an_empty_file_is_refused(write, name, content):
    assert f"'{name}' holds no prompt" in error_of(write(name, content))


def test_bytes_that_are_not_utf8_are_named_by_line(write):
    message = error_of(write("x.txt", b"one\ntwo\n\xff\xfe\n"))
    assert "'x.txt' is not UTF-8 at line 3" in message
    utf16 = error_of(write("y.txt", "prompt".encode("utf-16")))
    assert "Save the file as UTF-8" in utf16


def test_missing_files_and_folders_are_refused(tmp_path):
    assert "No prompt file at" in error_of(tmp_path / "none.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    assert "No prompt file at" in error_of(tmp_path / "folder.jsonl")


@pytest.mark.parametrize("limit", [-1, True, 2.0, "3"])
def test_a_limit_that_is_no_count_is_refused(write, limit):
    assert "`limit`" in error_of(write("x.txt", "one"), limit=limit)


def test_too_large_files_and_too_many_rows_are_refused_early(write, monkeypatch):
    monkeypatch.setattr(lines, "MAX_FILE_BYTES", 2**20)
    assert "more than 1 MiB" in error_of(write("x.txt", b"a" * (2**20 + 1)))
    monkeypatch.setattr(loading, "MAX_ROWS", 3)
    assert "more than 3 rows" in error_of(write("x.txt", "a\n" * 4))
    assert len(load_prompts(write("x.txt", "a\n" * 3))) == 3


def test_a_long_system_message_is_refused(write):
    assert "`system`" in error_of(write("x.txt", "one"), system="x" * 100_001)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"prompt": "x", "n": 1, "n": 2}', "line 1: names 'n' twice"),
        ('{"prompt": "x", "n": {"a": 1, "a": 1}}', "line 1: names 'a' twice"),
        ('{"prompt": "x", "n": ' + "[" * 65 + "]" * 65 + "}", "line 1: nested too deeply"),
        ('{"prompt": "x"' + "".join(f', "{n}": 0' for n in range(1000)) + "}", "has 1001 columns"),
    ],
    ids=["twice", "twice inside", "depth", "columns"],
)
def test_a_row_is_bounded_in_names_depth_and_columns(write, row, reason):
    assert reason in error_of(write("x.jsonl", row))


def test_the_largest_rows_are_read(write):
    deep = '{"prompt": "x", "n": ' + "[" * 64 + "]" * 64 + "}"
    wide = '{"prompt": "x"' + "".join(f', "{n}": 0' for n in range(999)) + "}"
    long = '{"prompt": "x", "n": "' + "y" * (1_000_000 - len('{"prompt": "x", "n": ""}')) + '"}'
    assert len(long) == 1_000_000
    assert len(load_prompts(write("x.jsonl", f"{deep}\n{wide}\r\n{long}"))) == 3


def test_many_bad_rows_end_the_reading(write):
    message = error_of(write("x.jsonl", "{}\n" * 5000))
    assert message.startswith("more than 100 bad rows in 'x.jsonl': line 1: no column 'prompt'")


def test_a_csv_row_is_as_long_as_its_lines_together(write):
    rows = 'prompt,n\nx,"' + "y\n" * 60_000 + '"\n'
    assert len(load_prompts(write("x.csv", rows))) == 1
    cells = ",".join(['"' + "y\n" * 60_000 + '"'] * 9)  # each below csv's own limit for a cell
    message = error_of(write("x.csv", f"prompt,{','.join('abcdefgh')}\n{cells}\n"))
    assert "line 2: not valid CSV (longer than 1000000 characters)" in message
