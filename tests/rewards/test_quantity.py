"""Quantities: every notation of a number is that number, and what is no single number is refused."""

from __future__ import annotations

import contextlib
import random
from fractions import Fraction

import pytest
from answer_pairs import PAIRS
from scored import score

from gdpo.errors import RewardError
from gdpo.rewards import AnswerMatch
from gdpo.rewards.quantity import read_answer, read_reference


def pays(reference: object, text: str) -> float | None:
    return score(AnswerMatch(mode="numeric"), text, reference=reference)


@pytest.mark.parametrize(("reference", "text", "expected"), PAIRS)
def test_pairs_as_people_have_them(reference, text, expected):
    assert pays(reference, text) == expected


# How a number below a billion is written, in whole groups of three digits.
def _grouped(whole: int, mark: str) -> str:
    return f"{whole:,}".replace(",", mark)


def _indian(whole: int, _mark: str) -> str:
    head, tail = divmod(whole, 1000)
    pairs = []
    while head > 99:
        head, pair = divmod(head, 100)
        pairs.insert(0, f"{pair:02}")
    return ",".join([str(head), *pairs, f"{tail:03}"]) if whole > 999 else str(whole)


_DIGITS = ("0123456789", "０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९")
_STYLES = [  # grouping, mark of groups, decimal mark
    *((_grouped, group, point) for group in (",", " ", "\u202f", "'", "’", "") for point in "."),
    *((_grouped, group, ",") for group in (".", " ", "\u00a0", "'", "")),
    (_indian, "", "."),
]
_FRAMES = (
    "{}", "It costs {}.", "48 + 24 = {}", "x={}", "**{}**", "#### {} (in 2 steps)", "\\boxed{{{}}}",
    "The answer is {}, found in 2 steps.", "Antwort: {} (2 Schritte)", "La réponse est {}. Etape 2.",
    "La respuesta final es {} en 2 pasos.", "答えは{}です。", "final answer: {}\nChecked 2 times.",
    "<answer>{}</answer> 2", "Step 1. Add.\nStep 2. So we get {}!", "on 2024-05-01 at 12:30: {} clips",
)  # fmt: skip


def written(value: Fraction, decimals: int, random_: random.Random) -> str:
    """The number in a notation that leaves no doubt."""
    group, mark, point = random_.choice(_STYLES)
    whole, rest = divmod(abs(value), 1)
    text = group(int(whole), mark)
    if decimals:
        text += point + str(int(rest * 10**decimals)).zfill(decimals)
    elif 1000 <= whole < 1_000_000 and mark == ".":
        text += ",00"  # 1.234 alone is read as in English
    text = text.translate(str.maketrans(_DIGITS[0], random_.choice(_DIGITS)))
    return random_.choice(("-", "−", "–")) * (value < 0) + text


def some_value(random_: random.Random) -> tuple[Fraction, int]:
    decimals = random_.choice((0, 0, 1, 2, 4))  # with 3, one mark is ambiguous
    digits = random_.randrange(1, 10**9 * 10**decimals) // 10 ** random_.randrange(8)
    return random_.choice((1, -1)) * Fraction(digits or 1, 10**decimals), decimals


@pytest.mark.parametrize("seed", range(20))
def test_every_notation_of_a_value_is_that_value_and_no_other(seed):
    random_ = random.Random(seed)
    for _ in range(40):
        value, decimals = some_value(random_)
        reference = written(value, decimals, random_)
        text = random_.choice(_FRAMES).format(written(value, decimals, random_))
        assert pays(reference, text) == 1, (reference, text)
        other = value + random_.choice((-1, 1)) * Fraction(random_.randrange(1, 99), 10**decimals)
        text = random_.choice(_FRAMES).format(written(other, decimals, random_))
        assert pays(reference, text) == 0, (reference, text)


@pytest.mark.parametrize("seed", range(10))
def test_fractions_mixed_numbers_and_powers_of_ten_are_exact(seed):
    random_ = random.Random(seed)
    for _ in range(40):
        over, under, whole = (random_.randrange(1, 99) for _ in range(3))
        forms = [
            f"{over}/{under}",
            rf"\frac{{{over}}}{{{under}}}",
            rf"$\dfrac{{{over}}}{{{under}}}$",
        ]
        value = Fraction(over, under)
        if over < under:
            forms = [f"{whole} {over}/{under}", rf"{whole}\frac{{{over}}}{{{under}}}"]
            value += whole
        for form in forms:
            assert read_answer(random_.choice(_FRAMES[:8]).format(form)).value == value, form
        power = random_.randrange(-30, 30)
        raised = str(power).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))
        for form in (
            f"{over}e{power}",
            f"{over} x 10^{power}",
            f"{over}×10{raised}",
            f"{over}E{power:+}",
        ):
            assert read_answer(f"It is {form}.").value == over * Fraction(10) ** power, form


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("none", "no number"),
        ("nan", "no number"),
        ("1, 2, 3", "several numbers"),
        ("1;2", "several numbers"),
        ("3 and 4", "several numbers"),
        ("72 clips in 2 days", "several numbers"),
        ("#### 72 or 73", "several numbers"),
        ("#### 72\n#### 73", "several answers"),
        ("2024-05-01", "a number that is no quantity"),
        ("12:30", "a number that is no quantity"),
        ("10-12", "a number that is no quantity"),
        ("3.2.1", "a number that is no quantity"),
        ("3x + 5", "several numbers"),
        ("x^2", "a number that is no quantity"),
        ("1/0", "a number that is no quantity"),
        ("1e999999999", "a number that is no quantity"),
        (r"3\sqrt{13}", "a number that is no quantity"),
        (r"(3, \frac{\pi}{2})", "a number that is no quantity"),
        ("5 May 2024", "a number that is no quantity"),
    ],
)
def test_a_reference_that_is_no_single_quantity_is_refused_with_the_remedy(reference, found):
    with pytest.raises(
        RewardError, match=rf"must be one quantity.*Found {found};.*use the mode contains"
    ):
        read_reference(reference)


def test_of_several_references_the_best_counts_and_a_tolerance_is_the_decimal_that_was_typed():
    assert pays([71, 72], "72") == 1
    scorer = AnswerMatch(mode="numeric", tolerance=0.1)
    assert [score(scorer, t, reference=0.3) for t in ("0.2", "0.4", "0.41", "1/3")] == [1, 1, 0, 1]


@pytest.mark.parametrize(
    "text",
    ["1" * 100_000, "1," * 50_000, "1 " * 50_000, "{" * 100_000, r"\frac{" * 20_000, "$" * 100_000,
     "answer " * 15_000, "**1" * 30_000, "-" * 100_000, "<answer>" * 12_000, "a1" * 50_000,
     "x=" * 50_000, r"\boxed{" * 15_000, "1/" * 50_000, "1 and " * 16_000, "####" * 25_000],
)  # fmt: skip
def test_hostile_text_is_read_in_a_while(text):
    assert read_answer(text) is None or read_answer(text).value < 10**400


_SCRAPS = [
    *"0123456789.,'/:-+−– \n()[]{}$€%^_*x×=~;|½³₂٣４，。",
    "e9", "**", "####", "<answer>", "</answer>", "\\boxed{", "}", "\\frac{", "\\frac34", "{,}", "10^",
    " x 10^", " and ", "answer is ", "答えは", "km", "万", "May ", " percent", "\\sqrt{2}", "minus ",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_what_is_taken_as_a_reference_is_right_as_an_answer_and_nothing_is_an_error(seed):
    random_ = random.Random(seed)
    for _ in range(3000):
        text = "".join(random_.choices(_SCRAPS, k=random_.randrange(1, 14)))
        with contextlib.suppress(RewardError):
            read_reference(text)
            assert pays(text, text) == 1, text
        pays("72", text)
