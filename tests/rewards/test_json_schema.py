"""JSON schema: JSON that fits, JSON that does not, and schemas that would do harm."""

from __future__ import annotations

import json

import pytest
from counting import steps
from scored import refused, score

from gdpo.errors import RewardError
from gdpo.rewards import (
    JSONSchema,
    schema_validator,
)

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
    monkeypatch.setattr(schema_validator, "TIME_LIMIT_SECONDS", 0.2)
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


@pytest.mark.parametrize(
    ("divisor", "number", "expected"),
    [
        ("0.3", "1e999", 0.5),  # which number was written is lost
        ("3", "-1e999", 0.5),
        ("0.5", "1" + "0" * 400, 1.0),
        ("0.3", "1" + "0" * 400, 0.5),  # 0.3 as a float is an odd number over a power of two
        ("3", "3" + "0" * 400, 1.0),
        ("1" + "0" * 400, "1.5", 0.5),
        ("1" + "0" * 400, "2" + "0" * 400, 1.0),
        ("5e-324", "1e308", 1.0),
        ("0.01", "4.02", 0.5),  # as jsonschema has it: in floats 4.02 / 0.01 is no whole number
        ("0.25", "4.75", 1.0),
    ],
)
def test_multiples_are_told_for_every_number(divisor, number, expected):
    for keyword in ("multipleOf", "divisibleBy"):
        draft = "http://json-schema.org/draft-03/schema#" if keyword == "divisibleBy" else None
        named = f'"$schema": "{draft}", ' if draft else ""
        schema = f'{{{named}"additionalProperties": {{"{keyword}": {divisor}}}}}'
        assert score(JSONSchema(schema), f'{{"a": {number}}}') == expected


def test_a_schema_with_a_number_that_is_none_is_refused():
    assert "'1e999' is too large" in refused(JSONSchema, schema='{"maximum": 1e999}')


def test_a_long_answer_has_more_time_than_a_short_one(monkeypatch):
    monkeypatch.setattr(schema_validator, "TIME_LIMIT_SECONDS", 0.0)
    schema = {"items": {"allOf": [{"type": "integer"}, {"minimum": 0}], "enum": [1, 2]}}
    assert score(JSONSchema(json.dumps(schema)), json.dumps([1, 2] * 5000)) == 1.0
