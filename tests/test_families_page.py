"""What the table of families tells of a message: nothing of the machine that it was made on."""

from __future__ import annotations

import pytest

from scripts.families_page import cell

MESSAGES = {
    "it was ended by SIGABRT (/tmp/pip-install-a1/llama_cpp_3/vendor/llama.cpp/src/llama-graph.cpp:2072: fatal error).": (
        "it was ended by SIGABRT (llama-graph.cpp:2072: fatal error)."
    ),
    "llama.cpp's converter in '/home/me/.llama_cpp/0.3.36' does not know it": (
        "llama.cpp's converter in its folder does not know it"
    ),
    "'/tmp/tmp_x1/model' holds no weights": "'model' holds no weights",
    r"'C:\\Users\\me\\model\\config.json' cannot be read": "'config.json' cannot be read",
    "two\n  lines | and a bar": r"two lines \| and a bar",
    "and/or 1/2 of a head": "and/or 1/2 of a head",
    "see https://github.com/a/b or docs/a/b.md": "see https://github.com/a/b or docs/a/b.md",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_name_no_folder(message):
    assert cell(message) == MESSAGES[message]
