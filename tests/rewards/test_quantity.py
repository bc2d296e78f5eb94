"""Quantities: every notation of a number is that number, and what is no single number is refused."""

from __future__ import annotations

import contextlib
import random
from fractions import Fraction

import pytest
from scored import score

from gdpo.errors import RewardError
from gdpo.rewards import AnswerMatch
from gdpo.rewards.quantity import read_answer, read_reference


def pays(reference: object, text: str) -> float | None:
    return score(AnswerMatch(mode="numeric"), text, reference=reference)


# (reference, completion, what it earns)
PAIRS = [
    # The last run of digits is no answer.
    ("1.234,50", "50 Euro", 0),
    ("3/4", "1/4", 0),
    (72, "#### 72 (checked in 2 steps)", 1),
    # GSM8K, whole solutions as references.
    ("48/2 = <<48/2=24>>24 clips in May.\n48+24 = <<48+24=72>>72.\n#### 72", "So it is 72.", 1),
    ("48/2 = <<48/2=24>>24 clips in May.\n48+24 = <<48+24=72>>72.\n#### 72", "So it is 24.", 0),
    ("#### 1,250", "1250.0", 1),
    ("#### 10", "Weng earned 0.2 x 50 = $<<0.2*50=10>>10.\n#### 10", 1),
    ("#### 10", "She earned 12/60 = $0.2 a minute.\n#### 0.2", 0),
    ("18", "She makes 9 * 2 = $18 every day at the farmer's market.", 1),
    ("18", "Janet sells 16 - 3 - 4 = 9 eggs a day.\nShe makes 9 * 2 = $18.\n\n#### $18", 1),
    ("18", "#### 9", 0),
    (70000, "#### $70,000", 1),
    (70000, "He made a profit of $70 thousand.", 1),
    (5, "#### Step 2: 5 - 3\nShe has 5 left", 1),
    (72, "Natalia sold 72 clips. **Final Answer:** 72", 1),
    (72, "**Final Answer**\n\n72", 1),
    (72, "The answer is 72, since 48 + 24 = 72 and 48 / 24 = 2.", 1),
    (72, "The answer is 48 + 24 = 72", 1),
    (72, "The answer is 48 + 24", 0),
    (72, "The answer is 71 or 72", 0),
    (72, "The answer is not 72, the answer is 70", 0),
    (70, "The answer is not 72, the answer is 70", 1),
    (72, "#### 71, 72, 73", 0),
    (72, r"#### $\boxed{72}$", 1),
    (72, "<answer>72</answer>", 1),
    (72, "<think>2 * 36 = 72</think><answer>36</answer>", 0),
    (72, '{"answer": 72, "steps": 2}', 1),
    (540, "Run 3 x 60 = 180 meters.\nThat is 180 x 3 = 540 meters.\n#### 540 meters", 1),
    # MATH.
    (r"\frac{3}{4}", r"Hence the probability is $\boxed{\frac{3}{4}}$.", 1),
    (r"\frac{3}{4}", r"\boxed{\dfrac34}", 1),
    (r"\frac{3}{4}", r"\boxed{0.75}", 1),
    (r"\frac{3}{4}", r"\boxed{\frac{1}{4}}", 0),
    (r"-\frac{3}{4}", r"\boxed{-\frac{3}{4}}", 1),
    (r"We get $x = 3$, so the answer is $\boxed{3}$.", "x is 3", 1),
    (r"10,\!080", r"\boxed{10{,}080}", 1),
    (r"\$36", r"\boxed{36}", 1),
    (r"12\%", r"\boxed{12}", 1),
    (r"90^\circ", r"\boxed{90^{\circ}}", 1),
    (r"90^\circ", "90 degrees", 1),
    ("18", r"The value is $\boxed{\text{18 cm}^2}$, not 19.", 1),
    ("2", r"The first is $\boxed{1}$, both together $\boxed{2}$", 1),
    ("2", r"\boxed{x + 2}", 0),
    ("2", r"\boxed{2x}", 0),
    ("2", r"\boxed{2\sqrt{3}}", 0),
    ("2", r"\boxed{\frac{\pi}{2}}", 0),
    ("2", r"\boxed{2\pi}", 0),
    ("4", r"\boxed{(3,4)}", 0),
    ("3.4", r"\boxed{\{3,4\}}", 0),
    ("1.5e3", r"1.5 \times 10^{3}", 1),
    # SVAMP: numbers as floats.
    (145.0, "They had 145 pages left.", 1),
    (8.0, "8 more", 1),
    (3.0, "3 baskets of 5 each", 0),
    # Signs.
    (-3, "x = -3", 1),
    (-3, "x = − 3", 1),
    (-3, "x = –3.", 1),
    (-3, "10-3", 0),
    (3, "10-3", 0),  # a range or a sum, no number
    (3, "- 3 apples", 1),
    (-5, "a loss of -$5", 1),
    (-5, "(-5)", 1),
    (5, "+5", 1),
    # Units and currencies.
    ("72 km", "72 kilometers", 1),
    ("72 km", "72", 1),
    ("72", "72km", 1),
    ("72 km", "72 miles", 0),
    ("72 km", "72 m", 0),
    ("$72", "€72", 0),
    ("$72", "72 dollars", 1),
    ("72 €", "72 Euro", 1),
    ("¥72", "72円です", 1),
    ("5 pounds", "£5", 1),
    ("5 m²", "5 square meters", 1),
    ("5 m²", "5 m", 0),
    ("20 °C", "20℃", 1),
    ("20 °C", "20 °F", 0),
    ("3000000", "3 million people", 1),
    ("3", "3 million people", 0),
    ("30000", "3万円", 1),
    # Percent.
    ("75%", "75 percent", 1),
    ("75", "75%", 1),
    ("0.75", "75 %", 1),
    ("75%", "0.75", 1),
    ("75%", "7.5%", 0),
    ("75%", "75 km", 0),
    # Marks.
    ("1,234", "1234", 1),
    ("1,234", "1.234", 0),
    ("1.234", "1,234", 0),
    ("1.234,00 €", "1.234 Euro", 1),
    ("12,5", "12.5", 1),
    ("0,125", "1/8", 1),
    ("1234567", "12,34,567", 1),
    ("1234567", "1 234 567", 1),
    ("1234567", "1'234'567", 1),
    ("1234567", "1.234.567", 1),
    ("1234567", "1.234.568", 0),
    # Other scripts and languages.
    (42, "答えは４２です", 1),
    (42, "答え：42個。2回確認しました。", 1),
    (42, "Die Antwort lautet 42, in 2 Schritten.", 1),
    (42, "La réponse est 42 (2 étapes).", 1),
    (42, "La respuesta es 42, en 2 pasos.", 1),
    (42, "٤٢", 1),
    (42, "४२", 1),
    ("3/4", "4分の3", 1),
    ("1,234.50", "１，２３４．５０", 1),
    ("1.234,50", "١٬٢٣٤٫٥٠", 1),
    ("1234.5", "1,234½", 1),
    ("1234.5", "1.2345×10³です", 1),
    ("-5", "マイナス5", 1),
    ("-5", "It is minus 5.", 1),
    ("-5", r"\frac{10}{-2}", 1),
    (7, "10 minus 3 is 7", 1),
    (7, "10 minus 3", 0),
    (72, "答案是72，共2步", 1),
    (72, "正解は72です。2回確認", 1),
    (72, "## Answer\n72 in 2 steps", 1),
    (72, "6 dozen", 1),
    (200000, "2 lakh", 1),
    # No quantities.
    (4, "GPT4", 0),
    (72, "72 - y", 0),
    (5, "x > 5", 0),
    (5, "x ≥ 5", 0),
    (5, r"\boxed{x \le 5}", 0),
    (5, "5 < x", 0),
    (5, "> 5", 1),  # a quotation
    (48, "**1.** Add\nSo we have 48", 1),
    (72, "72 + x", 0),
    (72, "72π", 0),
    (72, "72/2", 0),
    (72, "72x72", 0),
    (72, "a_72", 0),
    (72, "2^{72}", 0),
    (72, "192.168.0.72", 0),
    (72, "72nd", 0),
    (72, "F-72", 0),
    (1, "version 3.2.1", 0),
    (1, "on 2024-05-01", 0),
    (30, "at 12:30", 0),
    (1234, "call 555-1234", 0),
    (3, "1, 2, 3", 0),
    (3, "The numbers are 1, 2, 3 in this order.", 0),
    (4, "x is 3, 4 or 5", 0),
    (72, "In 2024, 72 clips were sold", 1),
    (72, "The answer is x: 72, then 2.", 1),
    (72, "The answer is 72, 2 of them red.", 1),
    (3, "he came 3rd", 0),
    (5, "none", 0),
    (5, "1e999999999", 0),
    (5, "9" * 5000, 0),
    (72, "72 clips were sold on 2024-05-01 at 12:30 by GPT4", 1),
]


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


@pytest.mark.parametrize("seed", range(5))
def test_what_is_taken_as_a_reference_is_right_as_an_answer_and_nothing_is_an_error(seed):
    random_ = random.Random(seed)
    for _ in range(3000):
        text = "".join(random_.choices(_SCRAPS, k=random_.randrange(1, 14)))
        with contextlib.suppress(RewardError):
            read_reference(text)
            assert pays(text, text) == 1, text
        pays("72", text)
