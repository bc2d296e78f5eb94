"""Text around numbers made plain: digits of all scripts, signs, LaTeX and Markdown, before it is read."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any

from .text import trusted_regex

# Stands for mathematics that is no number: roots, letters of formulas, sets.
OPAQUE = "\ufffc"

_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉"
_VULGAR = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞↉"
_SAME = {
    **dict.fromkeys("−‐‑‒–﹣", "-"),
    **dict.fromkeys("’‘ʼ′", "'"),
    **dict.fromkeys("×✕⨯✖", "×"),
    **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("٪﹪", "%"),
    "٫": ".",
    "٬": ",",
    "∗": "*",
    "⋅": "·",
    "⁺": "+",
    "⁻": "-",
    "±": OPAQUE,
    "√": OPAQUE,
    **dict.fromkeys("≤≥≠", OPAQUE),
    "℃": "°C",
    "℉": "°F",
    "≈": "=",
    "≃": "=",
}
_WHOLE = r"(-?\d[\d,]*)"
_LATEX = (
    (r"\\\\", "\n"),
    (
        r"\\(?:text|textbf|textrm|textit|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}",
        r" \1 ",
    ),
    (r"\{([,.])\}", r"\1"),
    (r"\\!", ""),
    (r"\\[,;: ]|\\q?quad(?![a-z])|~|\\(?:thinspace|medspace)(?![a-z])", " "),
    (r"\\(?:left|right|displaystyle|[bB]ig+[lr]?|f?boxed|[lL]arge|huge|bf)(?![a-z])", ""),
    (r" ?\^ ?\{? ?\\circ(?![a-z]) ?\}?|\\degree(?![a-z])", "°"),
    (r"\\[\(\)\[\]]", " "),
    (r"\\(?:times|cdot)(?![a-z])", "×"),
    (r"\\div(?![a-z])", "÷"),
    (r"\\(?:approx|simeq|sim|equiv)(?![a-z])", "="),
    (r"\\(?:[lL]ong)?(?:[rR]ightarrow|implies|to|therefore|because|l?dots)(?![a-z])", " → "),
    (r"(\\[dtc]?frac\s*\{\s*\d[\d,]*\s*\}\s*\{)\s*-", r"-\1"),
    (rf"(?<=\d)\s*\\[dtc]?frac\s*\{{\s*{_WHOLE}\s*\}}\s*\{{\s*{_WHOLE}\s*\}}", r" \1/\2"),
    (rf"\\[dtc]?frac\s*\{{\s*{_WHOLE}\s*\}}\s*\{{\s*{_WHOLE}\s*\}}", r"\1/\2"),
    (r"\\[dtc]?frac\s*\{?(\d)\}?\s*\{?(\d)\}?", r"\1/\2"),
    (r"\{\s*(-?\d+)\s*\\over\s*(\d+)\s*\}", r"\1/\2"),
    (r"\\\{", "("),
    (r"\\\}", ")"),
)
_OTHER_COMMAND = r"\\[a-zA-Z]+\s*(?:\[[^\[\]{}]*\])?(?:\s*\{[^{}]*\})*"
# Between dollar signs is a formula; by pandoc's rule, so that "$5 and $6" are prices.
_FORMULA = r"(?<!\\)\$(?=\S)([^$\n]{1,200}?)(?<=[^\s\\])\$(?!\d)"
_MARKUP = (
    (r"<<[^<>\n]*>>", ""),  # the calculator of GSM8K
    (r"</?[a-zA-Z][^<>\n]{0,100}>", " "),
    (r"(?<=\d)\*\*(?=-?\d+(?![\d*]))", "^"),
    (r"\*\*|__|`", ""),
    (r"(?<![\w*])\*(?=\S)([^*\n]*\S)\*(?![\w*])", r"\1"),
    (r"(?i)\b[a-z] ?[<>]=? ?(?=[-+]?\d)|(?<=\d) ?[<>]=? ?[a-z]\b", OPAQUE),  # x > 5 says no value
    (r"(?<=\d) ?x ?(?=\d)", "×"),
    (r"(?<=\d) / (?=\d)", "/"),
    (r"(?i)(?:\b(?:minus|negative|moins|menos)\s|マイナス)\s?(?=[$€£¥]?[\d.])", "-"),
    (r"(\d+)分の(\d+)", r"\2/\1"),
)


def make_plain(text: str) -> str:
    """Return `text` with ASCII digits and signs, without markup, and LaTeX as people type numbers."""
    if not text.isascii():
        text = _make_ascii(text)
    if "$" in text or "\\" in text or "{" in text:
        text = _without_latex(text)
    return _replace(text, _MARKUP)


def _make_ascii(text: str) -> str:
    # Between wide digits a wide comma marks thousands; elsewhere it ends a clause: 72，2回.
    text = trusted_regex(r"(?<![０-９])，|，(?![０-９])").sub(", ", text)
    raised, lowered = f"[{_RAISED}]+", f"[{_LOWERED}]+"
    text = trusted_regex(rf"({raised})[⁄/]({lowered})").sub(_small_fraction, text)
    text = trusted_regex(rf"(?<=\d)(?=[{_VULGAR}])").sub(" ", text)
    text = trusted_regex(rf"[⁺⁻]?{raised}").sub(lambda found: f"^{found[0]}", text)
    return trusted_regex(r"[^\x00-\x7f]").sub(lambda found: _plain_character(found[0]), text)


def _small_fraction(found: Any) -> str:
    over, under = (unicodedata.normalize("NFKC", part) for part in found.groups())
    before = found.string[: found.start()]
    return f"{' ' if before[-1:].isdigit() else ''}{over}/{under}"


@lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    if character in _SAME:
        return _SAME[character]
    if character in _LOWERED:
        return f"_{unicodedata.digit(character)}"
    decimal = unicodedata.decimal(character, None)
    if decimal is not None:
        return str(decimal)
    if trusted_regex(r"\d").match(character):
        return OPAQUE  # a digit of a script that is newer than this Python
    kind = unicodedata.category(character)
    if kind in {"Zs", "Cf"}:
        return " " if kind == "Zs" else ""
    plain = unicodedata.normalize("NFKC", character)
    narrow = character in _VULGAR or character in _RAISED or "\u3300" <= character <= "\u33ff"
    wide = "\uff00" <= character <= "\uffef"
    return _plain_text(plain) if narrow or wide else character


def _plain_text(text: str) -> str:
    return "".join(_SAME.get(character, character) for character in text)


def _without_latex(text: str) -> str:
    text = trusted_regex(_FORMULA).sub(r" \1 ", text.replace("$$", " "))
    text = text.replace("\\%", "%").replace("\\$", "$").replace("\\#", "#").replace("\\&", "&")
    text = _replace(text, _LATEX)
    # From the inside out, so that \frac{\sqrt{3}}{2} becomes one piece. Deeper nesting is no answer.
    for _ in range(8):
        text, count = trusted_regex(_OTHER_COMMAND).subn(OPAQUE, text)
        if not count:
            break
    text = trusted_regex(r"(?<=[\^_])\{([^{}]*)\}").sub(r"\1", text)
    return trusted_regex(r" {2,}").sub(" ", trusted_regex(r"[{}]").sub(" ", text))


def _replace(text: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, by in rules:
        text = trusted_regex(pattern).sub(by, text)
    return text
