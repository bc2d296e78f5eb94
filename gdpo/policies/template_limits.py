"""Chat templates are programs from strangers: transformers keeps them from code and files, this from time and memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..errors import PolicyError, shorten

# Honest templates take a millisecond or two.
TIME_LIMIT_SECONDS = 1.0
MAX_TEMPLATE_CHARACTERS = 200_000
# A larger number serves to make a text too long for the memory, or a power too large for the processor.
_MAX_NUMBER = 1_000_000
_TEMPLATE_CODE = "<template>"  # file name that jinja2 gives to the Python code of a template


def check_template(template: str, source: str) -> None:
    """Refuse a template with what no clock could stop: powers and huge numbers.

    Args:
        template: jinja2's language.
        source: The model, for the message.

    Raises:
        PolicyError: It has such a thing, is too long, or cannot be read.
    """
    if len(template) > MAX_TEMPLATE_CHARACTERS:
        raise PolicyError(
            f"The chat template of {source!r} has {len(template)} characters, at most "
            f"{MAX_TEMPLATE_CHARACTERS} are taken; get the model's original files."
        )
    for kind, value in _tokens(template, source):
        huge = kind == "integer" and int(value.replace("_", ""), 0) > _MAX_NUMBER
        if (kind, value) == ("operator", "**") or huge:
            raise PolicyError(
                f"The chat template of {source!r} computes with {shorten(value)}, which no honest template "
                "does; get the model's original files."
            )


def _tokens(template: str, source: str) -> list[tuple[str, str]]:
    import jinja2

    try:
        return [(kind, value) for _, kind, value in jinja2.Environment().lex(template)]
    except (jinja2.TemplateError, ValueError) as error:
        raise PolicyError(
            f"The chat template of {source!r} cannot be read ({' '.join(str(error).split())}); "
            "get the model's original files."
        ) from error


@contextmanager
def time_limit() -> Iterator[None]:
    """Raise TimeoutError in this thread when the template code inside the block runs too long.

    Template code is Python code, in which nothing but a trace function can interfere from the same thread. A
    debugger's own one is left in place.
    """
    if sys.gettrace() is not None:
        yield
        return
    sys.settrace(_watch())
    try:
        yield
    finally:
        sys.settrace(None)


def _watch() -> Callable[[FrameType, str, Any], Any]:
    deadline: list[float] = []  # set when the first line runs: compiling a template may take longer

    def look(_frame: FrameType, _event: str, _value: Any) -> Any:
        if time.monotonic() > deadline[0]:
            raise TimeoutError(f"it took more than {TIME_LIMIT_SECONDS:g} s")
        return look

    def enter(frame: FrameType, _event: str, _value: Any) -> Any:
        if frame.f_code.co_filename != _TEMPLATE_CODE:
            return None
        if not deadline:
            deadline.append(time.monotonic() + TIME_LIMIT_SECONDS)
        return look

    return enter
