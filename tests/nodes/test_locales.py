"""Help pages and translations: every node and input has them, in step with what the code declares."""

from __future__ import annotations

import json
import re

import pytest
from loaded_pack import PACK, ROOT

NODES = PACK.NODE_CLASS_MAPPINGS
TRANSLATIONS = ("ja", "zh")
# The page compiles translated texts as messages, in which these characters are commands.
MESSAGE_SYNTAX = re.compile(r"[{}@|]")
HTML = re.compile(
    r"</|<!|<(?:a|b|br|code|div|i|iframe|img|p|pre|script|span|style|svg|table)\b|&#?\w+;"
)
KANA, HAN = re.compile("[\u3040-\u30ff]"), re.compile("[\u4e00-\u9fff]")
# Nothing in these names is to be translated. The sockets of Combine Rewards come and go, and the page knows the
# translation only of those that were there at first.
SAME_IN_ALL_LANGUAGES = re.compile(r"GGUF|LoRA alpha|reward_\d+")
# English for the one tooltip that shows braces.
WITHOUT_SYNTAX = {
    ("GDPODefineRewardPattern", "pattern"): (
        "The format. Template: fixed text with placeholders (a name in braces), each standing for any text that is "
        "not empty; braces themselves are doubled. Regex: must be found somewhere; enclose in ^ and $ for the whole "
        "text."
    ),
}


def declared(node_id):
    """The inputs that the page shows, by name."""
    types = NODES[node_id].INPUT_TYPES()
    return {**types.get("required", {}), **types.get("optional", {})}


def english(node_id):
    """What locales/en says about a node: the code's own names and tooltips."""
    node = NODES[node_id]
    inputs = {
        name: {"name": name, "tooltip": WITHOUT_SYNTAX.get((node_id, name), spec[1]["tooltip"])}
        for name, spec in declared(node_id).items()
    }
    outputs = {
        str(number): {"name": name, "tooltip": tooltip}
        for number, (name, tooltip) in enumerate(
            zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS, strict=True)
        )
    }
    return {
        "display_name": PACK.NODE_DISPLAY_NAME_MAPPINGS[node_id],
        "description": node.DESCRIPTION,
        "inputs": inputs,
        "outputs": outputs,
    }


def write_english():
    """Bring locales/en up to date; `python tests/nodes/test_locales.py` calls it."""
    text = json.dumps({node_id: english(node_id) for node_id in NODES}, indent=2)
    path = ROOT / "locales" / "en" / "nodeDefs.json"
    path.write_text(text + "\n", encoding="utf-8")


def load(language):
    path = ROOT / "locales" / language / "nodeDefs.json"
    return json.loads(path.read_text(encoding="utf-8"))


def leaves(value, path=()):
    """Every text with the keys that lead to it."""
    if isinstance(value, str):
        return {path: value}
    found = [leaves(item, (*path, key)) for key, item in value.items()]
    return {key: text for part in found for key, text in part.items()}


def test_the_english_file_says_what_the_code_says():
    assert load("en") == {node_id: english(node_id) for node_id in NODES}


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_translation_has_the_same_keys_as_english(language):
    assert set(leaves(load(language))) == set(leaves(load("en")))


@pytest.mark.parametrize("language", ["en", *TRANSLATIONS])
def test_no_text_is_empty_or_html_or_message_syntax(language):
    for key, text in leaves(load(language)).items():
        assert text.strip() == text != "", key
        assert not HTML.search(text), key
        assert not MESSAGE_SYNTAX.search(text), key


@pytest.mark.parametrize("language", ["en", *TRANSLATIONS])
def test_no_text_shows_the_inside_of_a_program(language):
    for key, text in leaves(load(language)).items():
        assert "0x" not in text, key
        assert "<function" not in text, key


@pytest.mark.parametrize(("language", "script"), [("ja", (KANA, HAN)), ("zh", (HAN,))])
def test_a_translation_is_written_in_its_own_script(language, script):
    for key, text in leaves(load(language)).items():
        written = any(one.search(text) for one in script)
        assert written or SAME_IN_ALL_LANGUAGES.fullmatch(text), (key, text)
        assert language == "ja" or not KANA.search(text), (key, text)


@pytest.mark.parametrize("language", ["en", *TRANSLATIONS])
def test_display_names_differ_from_each_other(language):
    names = [node["display_name"] for node in load(language).values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_a_translation_names_every_choice_that_english_explains(language):
    """The choices of a menu are not translated, so a tooltip has to call them by their names."""
    for node_id in NODES:
        ours, theirs = load("en")[node_id]["inputs"], load(language)[node_id]["inputs"]
        for name, spec in declared(node_id).items():
            choices = spec[0] if isinstance(spec[0], list) else []
            explained = [one for one in choices if re.search(rf"\b{one}: ", ours[name]["tooltip"])]
            missing = [one for one in explained if one not in theirs[name]["tooltip"]]
            assert not missing, (node_id, name)


def test_a_help_page_names_every_input_and_output():
    for node_id in NODES:
        text = (ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
        names = [*declared(node_id), *NODES[node_id].RETURN_NAMES]
        assert [name for name in names if f"`{name}`" not in text] == [], node_id
        assert text.startswith("# "), node_id
        for heading in ("## Inputs", "## Outputs", "## Example", "## Common mistakes"):
            assert f"\n{heading}" in text, node_id
        assert not HTML.search(text), node_id


def test_every_help_page_belongs_to_a_node():
    assert {path.stem for path in (ROOT / "web" / "docs").iterdir()} == set(NODES)


def test_the_page_on_combining_names_every_method_and_weighting_and_is_read_in_five_minutes():
    text = (ROOT / "web" / "docs" / "GDPOCombineRewards.md").read_text(encoding="utf-8")
    inputs = declared("GDPOCombineRewards")
    choices = [*inputs["method"][0], *inputs["weighting"][0]]
    assert [choice for choice in choices if f"`{choice}`" not in text] == []
    assert len(text.split()) <= 5 * 230  # words a minute


if __name__ == "__main__":
    write_english()
