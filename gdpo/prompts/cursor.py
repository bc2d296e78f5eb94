"""A place in a JSON document, from which one value after the other is read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from ..errors import shorten
from .lines import MAX_ROW_CHARACTERS, LongLineError
from .values import DECODER, SKIPPER, BadRowError, bad_json, check_surrogates

_SPACE = re.compile(r"[ \t\n\r]+")
_LONGEST_WORD = 10  # of JSON: -Infinity


class NotJSONError(Exception):
    """A document is not JSON; the message says why and where.

    Attributes:
        ended: Whether it is JSON as far as it goes, and ends too early.
    """

    def __init__(self, reason: str, *, ended: bool = False) -> None:
        super().__init__(reason)
        self.ended = ended


class ManyValuesError(Exception):
    """There are more values than whoever reads has a use for."""


class Cursor:
    """A place in the text, of which little more is held than one row may have.

    Attributes:
        first: The document's first character that is no space; "" where there is none.
    """

    def __init__(self, blocks: Iterator[str], most_values: float = math.inf) -> None:
        self._left = most_values
        self._blocks, self._text, self._place, self._line = blocks, "", 0, 1
        self._ended = False
        self.first = self.peek()

    def peek(self) -> str:
        """Return the next character that is no space; "" at the end."""
        while True:
            found = _SPACE.match(self._text, self._place)
            self._place = found.end() if found else self._place
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._fill(1):
                return ""

    def take(self, character: str) -> None:
        """Step over a character that has to be there."""
        if self.peek() != character:
            raise self._error(f"{shorten(character)} is missing", self._place)
        self._place += 1

    def begin(self) -> None:
        """Check that rows can begin here."""
        if self.peek() != "{":
            raise self._error("a list or an object should begin here", self._place)

    def end(self) -> None:
        """Check that nothing follows."""
        if found := self.peek():
            raise self._error(f"found {shorten(found)} after the end", self._place)

    def value(self, *, keep: bool = False) -> object:
        """Return the next value; where it is JSON but cannot be used, the BadRowError that says why.

        Args:
            keep: Whether to stay in front of it.

        Raises:
            LongLineError: It has more characters than a row may have.
            NotJSONError: It is no JSON.
            ManyValuesError: There were as many values as were wanted.
        """
        self._left -= 1
        if self._left < 0:
            raise ManyValuesError
        self.peek()
        self._fill(MAX_ROW_CHARACTERS + 1)
        begin = self._place
        try:
            value, end = DECODER.raw_decode(self._text, begin)
            check_surrogates(self._text[begin:end], value)
        except json.JSONDecodeError as error:
            raise self._unread(error) from error
        except (BadRowError, RecursionError, ValueError) as error:
            value, end = bad_json(error), self._skip(begin)
        if end - begin > MAX_ROW_CHARACTERS:
            raise LongLineError
        self._place = begin if keep else end
        return value

    def _skip(self, begin: int) -> int:
        """Return where a value ends that cannot be used."""
        try:
            return SKIPPER.raw_decode(self._text, begin)[1]
        except json.JSONDecodeError as error:
            raise self._unread(error) from error
        except RecursionError as error:
            raise self._error("nested too deeply", begin) from error

    def _unread(self, error: json.JSONDecodeError) -> Exception:
        """Return what a failed reading means: a row that is too long, or no JSON."""
        at_end = error.pos >= len(self._text) - _LONGEST_WORD or "Unterminated" in error.msg
        if at_end and not self._ended:
            return LongLineError()
        return self._error(error.msg, error.pos)

    def _error(self, reason: str, place: int) -> NotJSONError:
        line = self._line + self._text.count("\n", 0, place)
        ended = self._ended and (place >= len(self._text.rstrip()) or "Unterminated" in reason)
        told = "the end is missing" if ended else reason
        return NotJSONError(f"{told} at line {line}", ended=ended)

    def _fill(self, count: int) -> bool:
        """Hold so many characters from here on, or all that are left; False where there are fewer."""
        while len(self._text) - self._place < count and not self._ended:
            block = next(self._blocks, "")
            self._ended = not block
            self._line += self._text.count("\n", 0, self._place)
            self._text, self._place = self._text[self._place :] + block, 0
        return len(self._text) - self._place >= count
