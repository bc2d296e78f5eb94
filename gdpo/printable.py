"""Text of files and models as a terminal may show it.

Control characters move the cursor, recolour the screen or type into some terminals, and bidirectional marks make a
line read as another one.
"""

from __future__ import annotations

import unicodedata

# Control, format and surrogate characters, and the separators of lines and paragraphs.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"  # of emoji, and of letters in some scripts


def printable(text: str, *, lines: bool = False) -> str:
    r"""`text` with everything that a terminal does not show written as an escape, such as `\x1b`.

    Args:
        text: May come from anybody.
        lines: Whether it may have several lines and tabs; otherwise line ends are escaped, too.
    """
    kept = _JOINERS + ("\n\t" if lines else "")
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(character)
        if character not in kept and unicodedata.category(character) in _HIDDEN
        else character
        for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
