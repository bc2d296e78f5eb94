"""JSON schema: a completion that is, or contains, JSON of a wished shape."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from ..options import check_options, option
from ..prompts import Prompt
from ..strict_json import refuse_constant
from .schema_validator import MAX_DEPTH, depth_of, fits, make_validator
from .scorer import Completion


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
        make_validator(self.schema)

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """0, 0.5 or 1, as the class says."""
        found = _find_json(completion.text)
        if found is None:
            return 0.0
        return 1.0 if fits(found, self.schema) else 0.5


def _find_json(text: str) -> dict | list | None:
    """The first of the whole text and its fenced blocks that is a JSON object or array."""
    blocks = text.split("```")[1::2]
    # A fence may be followed by the language's name on the same line.
    bodies = (block.partition("\n")[2] if block[:1].isalpha() else block for block in blocks)
    for candidate in (text, *bodies):
        if not candidate.strip().startswith(("{", "[")):
            continue
        try:
            value = json.loads(candidate, parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            continue
        if depth_of(value) <= MAX_DEPTH:
            return value
    return None
