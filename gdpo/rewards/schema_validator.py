"""A JSON schema from a stranger, made a validator that fetches nothing and is bounded in time and depth."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from ..errors import RewardError, shorten
from ..libraries import needed
from ..strict_json import finite_float, refuse_constant
from .bounded_regex import compile_pattern
from .schema_keywords import match_pattern, multiple_of, unique_items

MAX_DEPTH = 32
# A schema can refer to its own parts so that checking takes exponential time; it may not.
TIME_LIMIT_SECONDS = 1.0
# A long answer takes long with any schema, which must not end a training; each of its values takes some 10 us.
_SECONDS_PER_VALUE = 1e-3
# The moment, and how long after the start that is.
_deadline: ContextVar[tuple[float, float]] = ContextVar("deadline")


def fits(value: object, schema: str) -> bool:
    """Tell whether a value fits a schema.

    Raises:
        RewardError: The schema cannot be used, or checking takes too long.
    """
    limit = TIME_LIMIT_SECONDS + _SECONDS_PER_VALUE * measure(value)[1]
    token = _deadline.set((time.monotonic() + limit, limit))
    try:
        return make_validator(schema).is_valid(value)
    finally:
        _deadline.reset(token)


@lru_cache(maxsize=32)
def make_validator(text: str) -> Any:
    """Return a validator that fetches nothing and is bounded in time."""
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
        schema = json.loads(text, parse_constant=refuse_constant, parse_float=finite_float)
    except RecursionError:
        schema = None  # Refused below, with everything else that is too deep.
    except ValueError as error:
        raise RewardError(
            f"JSONSchema: the schema is not JSON: {error}. Found {shorten(text)}."
        ) from error
    if not isinstance(schema, dict) or depth_of(schema) > MAX_DEPTH:
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


def depth_of(value: object) -> int:
    """Return how deep lists and objects are nested in a value."""
    return measure(value)[0]


def measure(value: object) -> tuple[int, int]:
    """Return how deep lists and objects are nested in `value`, without recursion, and how many values are in them."""
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
