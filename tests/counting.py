"""How much work something is, counted and not timed: a count is the same on every machine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable


def steps(work: Callable[[], object]) -> int:
    """Number of lines and calls that the interpreter executes in `work`, built-ins included.

    What a built-in does inside of one call counts as one.
    """
    count = 0

    def line(_frame: object, _event: str, _arg: object) -> Callable:
        nonlocal count
        count += 1
        return line

    def call(_frame: object, event: str, _arg: object) -> None:
        nonlocal count
        count += event == "c_call"

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(line)
    sys.setprofile(call)
    try:
        work()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return count


# Functions of Python that ask the system about a path.
_TOUCHES = {"stat", "lstat", "scandir", "listdir", "open", "readlink"}


def touches(work: Callable[[], object]) -> Counter:
    """How often `work` asks the system about a path, by the name of the call."""
    seen: Counter = Counter()

    def count(_frame, event, function):
        if event == "c_call" and function.__name__ in _TOUCHES:
            seen[function.__name__] += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return seen
