"""Values as plain JSON: whatever a number is, the result is JSON that every reader takes."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from gdpo.to_json import to_json

WIDE = np.longdouble("1e400")  # infinite where long doubles are no wider than doubles


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**53, 2**53),
        (10**308, 10**308),
        (True, True),
        (1.5e308, 1.5e308),
        (float("nan"), None),
        (float("-inf"), None),
        (10**309, None),
        (-(10**5000), None),
        (WIDE, None),
        (np.longdouble(1.5), 1.5),
        (np.array([WIDE, np.longdouble(2)]), [None, 2.0]),
        (np.float16("inf"), None),
        (np.int64(3), 3),
        (np.array([10**400, 1], dtype=object), [None, 1]),
        (torch.tensor([float("nan"), 1.0]), [None, 1.0]),
        ({"a": [10**400, {"b": (1e999, 2)}]}, {"a": [None, {"b": [None, 2]}]}),
        (Decimal("1e400"), "1E+400"),
        (Fraction(1, 3), "1/3"),
        (1 + 2j, "(1+2j)"),
    ],
    ids=lambda value: str(type(value)),
)
def test_numbers_become_json_that_every_reader_takes(value, expected):
    found = to_json(value)
    assert found == expected
    assert type(found) is type(expected)
    text = json.dumps(found, allow_nan=False)
    json.loads(text, parse_int=float)  # as readers do that know floats alone; it must not overflow
    assert "Infinity" not in json.dumps(json.loads(text, parse_int=float))


def test_complex_numbers_that_python_has_no_equal_of_end_as_text():
    assert to_json(np.clongdouble(1 + 2j)) == "(1+2j)"
