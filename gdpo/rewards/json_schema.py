"""JSON schema: a completion that is, or contains, JSON of a wished shape."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from ..errors import RewardError, shorten
from ..libraries import needed
from ..options import check_options, option
from ..prompts import Prompt
from .bounded_regex import compile_pattern
from .schema_keywords import match_pattern, multiple_of, unique_items
from .scorer import Completion

MAX_DEPTH = 32
# A schema can refer to its own parts so that checking takes exponential time; it may not.
TIME_LIMIT_SECONDS = 1.0
# A long answer takes long with any schema, which must not end a training; each of its values takes some 10 us.
_SECONDS_PER_VALUE = 1e-3
# The moment, and how long after the start that is.
_deadline: ContextVar[tuple[float, float]] = ContextVar("deadline")


@dataclass(frozen=True)
class JSONSchema:
    """0 without JSON, 0.5 for JSON that does not fit the schema, 1 for JSON that does.

    The JSON is an object or an array: the whole completion or a block fenced by ```. A bare number
    or string does not count, since ordinary prose would. `format` in a schema is not enforced.
    """

    kind: ClassVar[str] = "JSONSchema"
    summary: ClassVar[str] = "Rewards completions that contain JSON which fits a JSON schema."
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    schema: str = option(
        '{"type": "object"}',
        "The JSON schema, as JSON. Reward: 0 no JSON, 0.5 JSON that does not fit, 1 JSON that "
        "fits. References must stay inside the schema.",
        multiline=True,
    )

    def __post_init__(self) -> None:
        """Refuses a schema that is not valid or could not be checked safely.

        Raises:
            RewardError: The schema is not JSON, not a valid schema, refers outside itself, or uses
                `patternProperties`.
        """
        check_options(self)
        _validator(self.schema)

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """0, 0.5 or 1, as the class says."""
        found = _find_json(completion.text)
        if found is None:
            return 0.0
        limit = TIME_LIMIT_SECONDS + _SECONDS_PER_VALUE * _measure(found)[1]
        token = _deadline.set((time.monotonic() + limit, limit))
        try:
            return 1.0 if _validator(self.schema).is_valid(found) else 0.5
        finally:
            _deadline.reset(token)


def _find_json(text: str) -> dict | list | None:
    """The first of the whole text and its fenced blocks that is a JSON object or array."""
    blocks = text.split("```")[1::2]
    # A fence may be followed by the language's name on the same line.
    bodies = (block.partition("\n")[2] if block[:1].isalpha() else block for block in blocks)
    for candidate in (text, *bodies):
        if not candidate.strip().startswith(("{", "[")):
            continue
        try:
            value = json.loads(candidate, parse_constant=_refuse)
        except (ValueError, RecursionError):
            continue
        if _depth(value) <= MAX_DEPTH:
            return value
    return None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {shorten(digits, 30)} is too large")
    return value


def _depth(value: object) -> int:
    return _measure(value)[0]


def _measure(value: object) -> tuple[int, int]:
    """How deep lists and objects are nested in `value`, without recursion, and how many values are in them."""
    depth, count, level = 0, 0, [value]
    while level:
        containers = [item for item in level if isinstance(item, (dict, list))]
        level = [
            child
            for item in containers
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        depth += bool(containers)
        count += len(level)
    return depth, count


@lru_cache(maxsize=32)
def _validator(text: str) -> Any:
    """A validator that fetches nothing and is bounded in time."""
    with needed("jsonschema", "The reward JSONSchema", RewardError):
        import jsonschema
        import referencing

    schema = _parse_schema(text)
    base = _draft(schema)
    try:
        # Without formats: one of them is "regex", which would go through `re`.
        base.check_schema(schema, format_checker=None)
    except (jsonschema.SchemaError, RecursionError) as error:
        where = getattr(error, "json_path", "$")
        reason = getattr(error, "message", "nested too deeply")
        raise RewardError(
            f"JSONSchema: the schema is not valid at {where}: {shorten(reason)}. Correct it."
        ) from error
    _check_parts(schema)
    # A registry without a way to retrieve: an unknown reference is an error, never a download.
    return _bounded(base)(schema, registry=referencing.Registry())


def _draft(schema: dict) -> Any:
    """The validator class of the draft that the schema names; the latest if it names none."""
    import jsonschema
    from jsonschema.validators import validator_for

    dialect = schema.get("$schema")
    if dialect is None:
        return jsonschema.Draft202012Validator
    nothing: Any = None
    base = validator_for(schema, default=nothing) if isinstance(dialect, str) else None
    if base is None:
        raise RewardError(f"JSONSchema: `$schema` names no known draft. Found {shorten(dialect)}.")
    return base


def _parse_schema(text: str) -> dict:
    try:
        schema = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        schema = None  # Refused below, with everything else that is too deep.
    except ValueError as error:
        raise RewardError(
            f"JSONSchema: the schema is not JSON: {error}. Found {shorten(text)}."
        ) from error
    if not isinstance(schema, dict) or _depth(schema) > MAX_DEPTH:
        raise RewardError(
            f"JSONSchema: the schema must be a JSON object, at most {MAX_DEPTH} deep. "
            f"Found {shorten(text)}."
        )
    return schema


def _check_parts(schema: dict) -> None:
    """Looks at every object inside the schema for what could not be checked safely."""
    parts: list[Any] = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if isinstance(part.get("patternProperties"), dict):
                raise RewardError(
                    "JSONSchema: `patternProperties` is not supported. Use `properties`, or "
                    "`pattern` in `propertyNames`."
                )
            if isinstance(part.get("pattern"), str):
                compile_pattern(part["pattern"])
            for key in ("$ref", "$dynamicRef", "$recursiveRef"):
                _check_reference(part.get(key), schema)
            parts.extend(part.values())
        elif isinstance(part, list):
            parts.extend(part)


def _check_reference(reference: object, schema: dict) -> None:
    import referencing
    import referencing.exceptions
    from referencing.jsonschema import DRAFT202012

    if not isinstance(reference, str):
        return
    if not reference.startswith("#"):
        raise RewardError(
            "JSONSchema: references must stay inside the schema, like '#/$defs/name'. "
            f"Found {shorten(reference)}."
        )
    resource = referencing.Resource.from_contents(schema, default_specification=DRAFT202012)
    try:
        referencing.Registry().resolver_with_root(resource).lookup(reference)
    except referencing.exceptions.Unresolvable as error:
        raise RewardError(
            f"JSONSchema: nothing in the schema is at {shorten(reference)}."
        ) from error


@lru_cache(maxsize=8)
def _bounded(base: Any) -> Any:
    """`base` with our own checks of some keywords, looking at the clock in every keyword."""
    from jsonschema.validators import extend

    own = {"pattern": match_pattern, "uniqueItems": unique_items, "multipleOf": multiple_of}
    own["divisibleBy"] = multiple_of  # its name in draft 3
    safe = base.VALIDATORS | {name: check for name, check in own.items() if name in base.VALIDATORS}
    return extend(base, {name: _timed(check) for name, check in safe.items()})


def _timed(check: Any) -> Any:
    def timed_check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        deadline, limit = _deadline.get()
        if time.monotonic() > deadline:
            raise RewardError(
                f"checking the schema took more than {limit:g} s; simplify its references"
            )
        yield from check(validator, value, instance, schema) or ()

    return timed_check
