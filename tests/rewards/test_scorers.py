from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from functools import partial

import pytest
from counting import steps

from gdpo.errors import RewardError
from gdpo.prompts import make_prompt
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
    bounded_regex,
    describe,
    json_schema,
)
from gdpo.rewards.courtesies import COURTESIES, RUDENESS


def score(scorer, text: str, *, tokens: int = 0, **fields: object) -> float | None:
    return scorer.score(make_prompt("question", fields=fields), Completion(text, tokens))


def refused(scorer_type, **settings) -> str:
    with pytest.raises(RewardError) as caught:
        scorer_type(**settings)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


# --- conciseness -------------------------------------------------------------------------------


def test_conciseness_falls_linearly_outside_the_band():
    scorer = Conciseness(shortest=2, longest=3, tolerance=3)
    # A word more or less than the band costs 1 / (tolerance + 1).
    expected = [0.0, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert [score(scorer, " ".join(["word"] * n)) for n in range(9)] == expected


def test_conciseness_without_tolerance_is_all_or_nothing():
    scorer = Conciseness(shortest=1, longest=2, tolerance=0)
    assert [score(scorer, "a " * n) for n in range(4)] == [0.0, 1.0, 1.0, 0.0]


def test_conciseness_counts_words_characters_or_tokens():
    text = "Don't wait: 1,250 users - 3.5 GB!"  # don't, wait, 1250, users, 3.5, gb
    assert score(Conciseness(shortest=6, longest=6, tolerance=0), text) == 1.0
    letters = len(text) - text.count(" ")
    exact = {"shortest": letters, "longest": letters, "tolerance": 0}
    assert score(Conciseness(unit="characters", **exact), text) == 1.0
    exact = {"shortest": 9, "longest": 9, "tolerance": 0}
    assert score(Conciseness(unit="tokens", **exact), text, tokens=9) == 1.0
    assert score(Conciseness(unit="tokens", **exact), text, tokens=10) == 0.0


def test_a_japanese_character_counts_as_a_word():
    # 再 起 動 し て く だ さ い makes nine, PC one; the full stop none.
    scorer = Conciseness(shortest=10, longest=10, tolerance=0)
    assert score(scorer, "PC再起動してください。") == 1.0


# --- politeness --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Restart the router.", 0.0),
        ("Please restart the router.", 1 / 3),
        ("Hello! Please restart the router.", 2 / 3),
        ("Hello, sorry about that. PLEASE restart the router.", 1.0),
        ("Hello, thanks, sorry, please, glad to help, of course.", 1.0),
        ("Please please please, could you kindly restart it?", 1 / 3),
        ("It is your own fault.", 0.0),
        ("Hello, sorry, please wait, you idiot.", 0.5),
        ("Hello, sorry, please wait, you stupid, stupid idiot.", 0.0),
        ("You’re welcome.", 1 / 3),
        ("They were pleased with Chicago.", 0.0),  # neither "please" nor "hi"
        ("It is not your fault. The errors will go away.", 0.0),
        ("ルーターを再起動する。", 0.0),
        ("ルーターを再起動してください。", 1 / 3),
        ("お待たせして申し訳ありません。", 2 / 3),  # empathy, and a polite ending
        (
            "お世話になっております。ご不便をおかけし申し訳ございません。再起動をお願いいたします。",
            1.0,
        ),
        ("ますます悪くなる。", 0.0),
        ("こんにちは。恐縮だがお試しください、馬鹿。", 0.5),
        ("うるさい。お前が悪い。", 0.0),
        ("バカンスの写真", 0.0),
    ],
)
def test_politeness_pays_each_kind_of_courtesy_once_and_subtracts_rudeness(text, expected):
    assert score(Politeness(wanted=3, rudeness_penalty=0.5), text) == pytest.approx(expected)


def test_rude_markers_only_lower_politeness():
    polite = "Hello, sorry about that, please restart it."
    rude = ["shut up", "not my problem", "黙れ", "ふざけるな", "use your brain"]
    scores = [
        score(Politeness(rudeness_penalty=0.2), polite + " ".join(rude[:n])) for n in range(6)
    ]
    assert scores == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])


def test_every_courtesy_and_rudeness_in_the_lists_is_found():
    for kind, (english, _) in COURTESIES.items():
        assert all(score(Politeness(wanted=1), phrase) == 1.0 for phrase in english), kind
    polite = "hello "
    for phrase in RUDENESS[0]:
        assert score(Politeness(wanted=1, rudeness_penalty=1.0), polite + phrase) == 0.0, phrase


def test_full_width_letters_are_read_like_normal_ones():
    assert score(Politeness(wanted=1), "Ｐｌｅａｓｅ wait") == 1.0


# --- keywords ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({"required": "router, Modem"}, "Your MODEM and your router", 1.0),
        ({"required": "router, modem"}, "Your modem", 0.5),
        ({"required": "router, modem", "enough": "any"}, "Your modem", 1.0),
        ({"required": "router, modem", "enough": "any"}, "Your printer", 0.0),
        ({"required": "net"}, "The internet is a network", 0.0),
        ({"required": "print  spooler"}, "restart the Print\nspooler.", 1.0),
        ({"required": "C++"}, "written in c++", 1.0),
        ({"forbidden": "refund"}, "No money back", 1.0),
        ({"forbidden": "refund\nlawyer"}, "A refund, or a lawyer", 0.25),
        ({"required": "router", "forbidden": "refund"}, "router refund refund", 0.5),
        ({"required": "再起動、設定"}, "ルーターを再起動してください", 0.5),
        ({"required": "ＰＣ"}, "このpcを再起動", 1.0),
        ({"required": "프린터"}, "프린터를 다시 켜세요", 1.0),
    ],
)
def test_keywords_give_the_share_found_halved_per_forbidden_one(settings, text, expected):
    assert score(Keywords(**settings), text) == expected


def test_keywords_from_a_prompt_column_join_the_fixed_ones():
    scorer = Keywords(required="please", field="must")
    assert score(scorer, "please use the cable", must="cable, router") == pytest.approx(2 / 3)
    assert score(scorer, "please use the cable", must=["cable"]) == 1.0
    assert score(scorer, "please use 5", must=5) == 1.0
    assert score(scorer, "please") is None
    assert score(scorer, "please", must=None) is None
    with pytest.raises(RewardError, match="field 'must' is empty"):
        score(scorer, "please", must=" ")


def test_keywords_that_look_for_nothing_or_contradict_themselves_are_refused():
    assert "all three are empty" in refused(Keywords)
    assert "all three are empty" in refused(Keywords, required=" , \n", field=" ")
    many = ", ".join(map(str, range(501)))
    assert "at most 500 keywords" in refused(Keywords, required=many)
    with pytest.raises(RewardError, match="at most 500 keywords"):
        score(Keywords(field="must"), "x", must=many)
    assert "'refund' is both" in refused(Keywords, required="Refund", forbidden="ＲＥＦＵＮＤ")


# --- pattern -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Problem: no ink Solution: refill", 1.0),
        ("  Problem:\n no ink\n\nSolution: refill\n", 1.0),
        ("Problem: Solution: refill", 0.5),  # both parts, but nothing between them
        ("Problem: no ink Solution:", 0.5),
        ("Sure! Problem: no ink Solution: refill", 0.5),
        ("Solution: refill. Problem: no ink", 0.25),
        ("Problem: no ink", 0.25),
        ("problem: no ink solution: refill", 0.0),
        ("Refill it.", 0.0),
    ],
)
def test_a_template_pays_1_for_the_form_and_up_to_half_for_its_parts(text, expected):
    assert score(Pattern("Problem: {problem}\nSolution: {solution}"), text) == expected


def test_templates_know_braces_case_and_japanese():
    assert score(Pattern("{{{x}}}"), "{value}") == 1.0
    assert score(Pattern("ANSWER: {x}.", ignore_case=True), "Answer: 5.") == 1.0
    assert score(Pattern("原因：{a}。対策：{b}。"), "原因：紙詰まり。対策：紙を取り除く。") == 1.0
    # Of the three fixed parts 「原因：」「。対策：」「。」 only the last is there: half of a third.
    assert score(Pattern("原因：{a}。対策：{b}。"), "紙を取り除く。") == pytest.approx(1 / 6)


def test_a_regular_expression_must_be_found():
    assert score(Pattern(r"^Answer: \d+$", "regex"), " Answer: 42\n") == 1.0
    assert score(Pattern(r"^Answer: \d+$", "regex"), "The Answer: 42") == 0.0
    assert score(Pattern("answer", "regex", ignore_case=True), "ANSWER") == 1.0
    assert score(Pattern(r"\p{Hiragana}", "regex"), "です") == 1.0
    assert score(Pattern(r"^\(?1\)? \d{4}-\d{2}-\d{2}$", "regex"), "(1) 2024-05-06") == 1.0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"syntax": "regex", "pattern": "(unclosed"}, "is not valid: missing )"),
        ({"syntax": "regex", "pattern": ""}, "1 to 1000 characters. Found 0"),
        ({"syntax": "regex", "pattern": "x" * 1001}, "1 to 1000 characters. Found 1001"),
        ({"syntax": "regex", "pattern": "(" * 450 + ")" * 450}, "is not valid"),
        ({"syntax": "regex", "pattern": "((a{1000}){1000}){1000}"}, "repeats too often"),
        ({"syntax": "regex", "pattern": "a{4000000000}"}, "repeats too often"),
        ({"syntax": "regex", "pattern": "(?x)(a{ 1000}) {1000} {1000}"}, "repeats too often"),
        ({"syntax": "regex", "pattern": "(?R)a|b"}, "is recursive"),
        ({"syntax": "regex", "pattern": r"\\(a(?1)?b)"}, "is recursive"),
        ({"pattern": "{open"}, "is not valid"),
        ({"pattern": "only text"}, "needs fixed text and at least one placeholder"),
        ({"pattern": "{all}"}, "needs fixed text and at least one placeholder"),
        ({"pattern": "Answer: {}"}, "that is not a name"),
        ({"pattern": "Answer: {x:>10}"}, "that is not a name"),
        ({"pattern": "Answer: {x!r}"}, "that is not a name"),
        ({"syntax": "glob"}, "`syntax` must be one of 'template', 'regex'. Found 'glob'"),
    ],
)
def test_patterns_that_cannot_be_used_are_refused_at_once(settings, reason):
    assert reason in refused(Pattern, **settings)


@pytest.mark.parametrize("pattern", ["(a|aa)+$", r"(.+)\1\1\1$", "(x*)*(a*)*y|(x+a+)+b"])
def test_catastrophic_patterns_end_in_an_error_naming_the_time_limit(pattern, monkeypatch):
    monkeypatch.setattr(bounded_regex, "TIME_LIMIT_SECONDS", 0.2)
    scorer = Pattern(pattern, "regex")
    text = "a" * 30_000 + "!" if pattern[1] != "x" else "xa" * 15_000 + "!y"
    with pytest.raises(RewardError, match=r"took more than 0\.2 s on a text of 3000\d char"):
        score(scorer, text)


def test_the_classic_catastrophic_pattern_is_answered_or_stopped():
    assert score(Pattern("(a+)+$", "regex"), "a" * 40 + "!") == 0.0


# --- JSON schema -------------------------------------------------------------------------------

PERSON = '{"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "Ann"}', 1.0),
        (' \n{"name": "アン"}\n', 1.0),
        ('Here:\n```json\n{"name": "Ann"}\n```\nBye', 1.0),
        ('```\n{"name": "Ann"}\n```', 1.0),
        ('```{"name": "Ann"}```', 1.0),
        ('```\nls\n``` and ```json\n{"name": "Ann"}\n```', 1.0),
        ('{"name": 5}', 0.5),
        ("[]", 0.5),
        ('{"name": "Ann"', 0.0),
        ('My answer is {"name": "Ann"}', 0.0),
        ('{"name": NaN}', 0.0),
        ("5", 0.0),
        ('"Ann"', 0.0),
        ("Ann", 0.0),
        ("[" * 33 + "]" * 33, 0.0),
        ("[" * 32 + "]" * 32, 0.5),
        ("[" * 200_000, 0.0),
        ("[" * 100_000 + "]" * 100_000, 0.0),
    ],
    ids=lambda value: str(value)[:20],
)
def test_json_is_graded_none_misfit_fit(text, expected):
    assert score(JSONSchema(PERSON), text) == expected


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"properties": {"id": {"pattern": r"^\d{3}$"}}}, '{"id": "123"}', '{"id": "12"}'),
        ({"propertyNames": {"pattern": "^[a-z]+$"}}, '{"ab": 1}', '{"AB": 1}'),
        ({"items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}}, "[1]", "[1.5]"),
        ({"uniqueItems": True}, '[1, true, "1", [1], {"a": 1}]', '[{"a": 1}, {"a": 1.0}]'),
        ({"uniqueItems": False}, "[1, 1]", "oops"),
        (
            {"$schema": "http://json-schema.org/draft-07/schema#", "required": ["a"]},
            '{"a": 1}',
            "{}",
        ),
        (
            {"type": "object", "additionalProperties": {"$ref": "#"}},  # a tree
            '{"a": {"b": {}}}',
            '{"a": {"b": 1}}',
        ),
        (
            {
                "$id": "https://example.org/x",
                "$ref": "#/$defs/a",
                "$defs": {"a": {"type": "array"}},
            },
            "[]",
            "{}",
        ),
    ],
)
def test_schemas_mean_what_the_standard_says(schema, good, bad):
    scorer = JSONSchema(json.dumps(schema))
    assert score(scorer, good) == 1.0
    assert score(scorer, bad) < 1.0


def test_validity_agrees_with_the_plain_library():
    import jsonschema

    schemas = [
        {"type": "array", "items": {"type": "string", "minLength": 2}, "maxItems": 2},
        {"oneOf": [{"type": "array"}, {"required": ["a"]}], "not": {"required": ["b"]}},
        {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "minProperties": 1},
        {"additionalProperties": False, "properties": {"a": {"enum": [1, "x", None]}}},
    ]
    values = [[], ["ab"], ["a"], ["ab", "cd", "ef"], {}, {"a": 1}, {"a": 2}, {"a": None, "b": 1}]
    for schema in schemas:
        for value in values:
            plain = jsonschema.Draft202012Validator(schema).is_valid(value)
            assert score(JSONSchema(json.dumps(schema)), json.dumps(value)) == (
                1.0 if plain else 0.5
            )


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("{", "the schema is not JSON"),
        ("", "the schema is not JSON"),
        ("[]", "must be a JSON object"),
        ("true", "must be a JSON object"),
        ('{"a": NaN}', "the schema is not JSON"),
        ('{"type": "objct"}', "the schema is not valid at $.type"),
        ('{"minimum": "5"}', "the schema is not valid at $.minimum"),
        ('{"$schema": "https://example.org/mine"}', "names no known draft"),
        ('{"$schema": 5}', "names no known draft"),
        ('{"$ref": "https://example.org/x"}', "references must stay inside"),
        ('{"items": [{"$ref": "file:///etc/passwd"}]}', "not valid"),
        ('{"allOf": [{"$ref": "file:///etc/passwd"}]}', "references must stay inside"),
        ('{"allOf": [{"$ref": "other.json"}]}', "references must stay inside"),
        ('{"$ref": "#/$defs/none"}', "nothing in the schema is at '#/$defs/none'"),
        ('{"properties": {"a": {"patternProperties": {"(a+)+$": {}}}}}', "`patternProperties`"),
        ('{"pattern": "((a{1000}){1000}){1000}"}', "repeats too often"),
        ('{"pattern": "a{4000000000}"}', "repeats too often"),
        ('{"pattern": "("}', "not valid"),
        ('{"not": ' * 40 + "{}" + "}" * 40, "at most 32 deep"),
        ('{"not": ' * 2000 + "{}" + "}" * 2000, "at most 32 deep"),
        ('{"description": "' + "x" * 20_000 + '"}', "at most 20000 characters"),
    ],
    ids=lambda value: value[:40],
)
def test_schemas_that_are_wrong_or_unsafe_are_refused_at_definition(schema, reason):
    assert reason in refused(JSONSchema, schema=schema)


def test_a_schema_that_doubles_its_work_with_each_reference_is_stopped(monkeypatch):
    monkeypatch.setattr(json_schema, "TIME_LIMIT_SECONDS", 0.2)
    # 2^40 checks: each part refers twice to the next.
    parts = {str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)}
    schema = {"$defs": {**parts, "40": {}}, "$ref": "#/$defs/0"}
    with pytest.raises(RewardError, match=r"took more than 0\.2 s"):
        score(JSONSchema(json.dumps(schema)), "{}")


def test_a_catastrophic_pattern_inside_a_schema_is_stopped():
    scorer = JSONSchema('{"items": {"pattern": "(a|aa)+$"}}')
    with pytest.raises(RewardError, match="took more than 1 s"):
        score(scorer, json.dumps(["a" * 30_000 + "!"]))


def test_many_equal_objects_are_compared_in_linear_time():
    scorer = JSONSchema('{"uniqueItems": true}')
    few, many = (json.dumps([{"a": n} for n in range(count)]) for count in (500, 1000))
    assert score(scorer, many) == 1.0
    assert steps(lambda: score(scorer, many)) < 2.5 * steps(lambda: score(scorer, few))


# --- answer match ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "reference", "text", "expected"),
    [
        ("contains", "restart the print spooler", "Please RESTART the print-spooler, thanks.", 1.0),
        ("contains", "restart the print spooler", "Restart the Windows print spooler", 0.0),
        ("contains", "art", "Restart", 0.0),
        ("contains", "5", "It is 15", 0.0),
        ("contains", "1250", "It costs $1,250.", 1.0),
        ("contains", 1250, "It costs 1,250", 1.0),
        ("contains", ["reboot", "restart"], "Just restart it", 1.0),
        ("contains", "再起動", "PCを再起動してください。", 1.0),
        ("contains", "ＷｉＦｉ", "turn on wifi", 1.0),
        ("exact", "Restart it!", " restart  it ", 1.0),
        ("exact", "restart it", "restart it now", 0.0),
        ("exact", "-5", "5", 0.0),
        ("exact", "-5", "−5", 1.0),
        ("exact", "don't", "Don’t", 1.0),
        ("numeric", 72, "48 + 24 = 72 clips.", 1.0),
        ("numeric", 72, "72 clips, so 2 boxes", 0.0),
        ("numeric", "#### 1,250", "1250.0", 1.0),
        ("numeric", 0.3, "about 0.4", 0.0),
        ("numeric", -3, "x = -3", 1.0),
        ("numeric", -3, "10-3", 0.0),
        ("numeric", 3, "10-3", 1.0),
        ("numeric", 42, "答えは４２です", 1.0),
        ("numeric", 2000, "2e3", 1.0),
        ("numeric", 5, "none", 0.0),
        ("numeric", 5, "1e999", 0.0),
        ("numeric", 5, "9" * 5000, 0.0),
    ],
)
def test_answers_match_by_words_or_numbers(mode, reference, text, expected):
    assert score(AnswerMatch(mode=mode), text, reference=reference) == expected


def test_numeric_tolerance_is_absolute():
    scorer = AnswerMatch(mode="numeric", tolerance=0.5)
    assert [score(scorer, text, reference=10) for text in ("9.4", "9.5", "10.5", "10.6")] == [
        0,
        1,
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("mode", "text", "expected"),
    [
        ("contains", "please restart the print spooler now", 1.0),
        ("contains", "restart the Windows print spooler", 0.5),  # 2 of 4 words in one piece
        ("contains", "check the print spooler", 0.75),
        ("contains", "the", 0.25),
        ("contains", "spooler print the restart", 0.25),
        ("contains", "no idea", 0.0),
        ("exact", "restart the print spooler", 1.0),
        ("exact", "please restart the print spooler", 0.8),  # 4 of 5
        ("exact", "restart the", 0.5),
    ],
)
def test_partial_credit_is_the_longest_unbroken_share(mode, text, expected):
    scorer = AnswerMatch(mode=mode, partial_credit=True)
    assert score(scorer, text, reference="Restart the print spooler.") == expected


def test_prompts_without_a_reference_are_unscored_and_bad_references_are_errors():
    assert score(AnswerMatch(), "x") is None
    assert score(AnswerMatch(), "x", reference=None) is None
    for bad, reason in [
        ("", "is empty"),
        ([], "is empty"),
        (["a", " "], "is empty"),
        ("x" * 20_001, "may have 20000 characters"),
        ("?!", "1 to 1000 words. Found 0"),
        ("a " * 1001, "1 to 1000 words. Found 1001"),
        (True, "must be a text, a number or a list"),
        ({"a": 1}, "must be a text, a number or a list"),
        ([["a"]], "must be a text, a number or a list"),
    ]:
        with pytest.raises(RewardError, match=reason):
            score(AnswerMatch(), "x", reference=bad)
    for bad in ("none", "1e999"):
        with pytest.raises(RewardError, match="holds no usable number"):
            score(AnswerMatch(mode="numeric"), "5", reference=bad)
    assert "`field` must name" in refused(AnswerMatch, field=" ")


# --- repetition --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "text", "expected"),
    [
        (3, "one two three four five six", 1.0),
        # trigrams of abcabc: abc bca cab abc: 3 of 4 differ
        (3, "a b c a b c", 0.75),
        (1, "no no yes no", 0.5),
        (3, "No, NO no!", 1 / 3),
        (3, "no no", 0.5),
        (3, "yes", 1.0),
        # です。です。です: six characters, pairs で-す す-で で-す す-で で-す: 2 of 5 differ
        (2, "です。です。です", 0.4),
    ],
)
def test_repetition_is_the_share_of_different_sequences(size, text, expected):
    assert score(Repetition(size=size), text) == pytest.approx(expected)


# --- what holds for every scorer ---------------------------------------------------------------

EXAMPLES = [
    Conciseness(shortest=0),
    Conciseness(unit="characters", shortest=0),
    Conciseness(unit="tokens", shortest=0),
    Politeness(wanted=1),
    Keywords(forbidden="refund"),
    Keywords(required="x", enough="any"),
    Pattern("{x}: {y}"),
    Pattern(".*", "regex"),
    Pattern("^$", "regex"),
    JSONSchema("{}"),
    AnswerMatch(),
    AnswerMatch(mode="exact", partial_credit=True),
    AnswerMatch(mode="numeric", tolerance=1e12),
    Repetition(),
    Repetition(size=1),
]
NOTHING = ["", " ", "\n\t", "\u3000", "\u200b\ufeff", "\0"]


def test_every_kind_is_registered_under_its_stable_name_and_has_an_example_here():
    assert list(SCORERS) == [
        "Conciseness",
        "Politeness",
        "Keywords",
        "Pattern",
        "JSONSchema",
        "AnswerMatch",
        "Repetition",
    ]
    assert {type(scorer) for scorer in EXAMPLES} == set(SCORERS.values())
    for name, kind in SCORERS.items():
        assert kind.kind == name
        assert kind.summary.endswith(".")
        assert kind.value_range == (0.0, 1.0)


@pytest.mark.parametrize("scorer", EXAMPLES, ids=repr)
def test_an_empty_completion_earns_nothing(scorer):
    found = {text: score(scorer, text, reference="5", tokens=1) for text in NOTHING}
    assert found == dict.fromkeys(NOTHING, 0.0)


@pytest.mark.parametrize("scorer", EXAMPLES, ids=repr)
def test_punctuation_alone_never_earns_the_full_reward_of_a_worded_kind(scorer):
    if not isinstance(scorer, Pattern):
        assert score(scorer, "...", reference="5", tokens=1) == 0.0


ODD = ("a", "a ", "あ", "，、", "1,", "\u0300\u0316", "{", "```", '"\\', "ﷺ")
LONE_SURROGATE = "\ud800 lone"


@pytest.mark.parametrize("scorer", EXAMPLES, ids=repr)
def test_huge_and_odd_texts_are_scored_in_range(scorer):
    for text in (LONE_SURROGATE, *(part * (100_000 // len(part)) for part in ODD)):
        value = score(scorer, text, reference="5 a", tokens=5)
        assert value is not None, ascii(text[:6])
        assert 0.0 <= value <= 1.0, ascii(text[:6])


@pytest.mark.parametrize("scorer", EXAMPLES, ids=repr)
def test_a_text_twice_as_long_takes_at_most_twice_the_work(scorer):
    for part in ODD:
        score(scorer, part, reference="5 a", tokens=5)  # compiles what is compiled once
        once, twice = (
            steps(partial(score, scorer, part * count, reference="5 a", tokens=5))
            for count in (500, 1000)
        )
        assert twice <= 2.1 * once, ascii(part)


def test_scorers_are_immutable_documented_values():
    for kind in SCORERS.values():
        assert is_dataclass(kind)
        assert kind.__dataclass_params__.frozen
        settings = describe(kind)
        assert [item.name for item in settings] == [item.name for item in fields(kind)]
        for item in settings:
            assert item.type in (bool, int, float, str)
            assert len(item.help) > 20
            assert item.help.endswith(".")
            if item.type in (int, float):
                assert item.minimum <= item.default <= item.maximum
    assert Politeness() == Politeness()
    assert hash(Politeness()) == hash(Politeness())


@pytest.mark.parametrize("kind", [kind for kind in SCORERS.values() if kind is not Keywords])
def test_default_settings_are_valid(kind):
    kind()


def bad_settings(kind):
    """Every numeric, boolean and text setting of the kind with values that it must refuse."""
    for item in describe(kind):
        wrong = {
            bool: [1, "true", None],
            int: [True, 1.0, "3", None, math.nan],
            float: [True, "3", None, math.nan, math.inf, -math.inf],
            str: [5, None, b"x", "x" * 20_001],
        }[item.type]
        if item.minimum is not None:
            wrong += [item.minimum - 1, item.maximum + max(1, item.maximum)]
        if item.choices:
            wrong += ["", item.choices[0].upper() + " "]
        yield from ((item.name, value) for value in wrong)


@pytest.mark.parametrize("kind", SCORERS.values(), ids=list(SCORERS))
def test_settings_of_wrong_type_or_range_are_refused_by_name(kind):
    for name, value in bad_settings(kind):
        message = refused(kind, **{name: value})
        assert f"`{name}`" in message, (name, value)
