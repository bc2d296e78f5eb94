"""Libraries that only some of the work needs, and that may be absent or broken on a machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import GDPOError, shorten


@contextmanager
def needed(package: str, purpose: str, error: type[GDPOError]) -> Iterator[None]:
    """Turn what an import inside the block raises into one line with the remedy.

    A library that fits badly to another raises anything while it is imported, not ImportError alone.

    Args:
        package: Name of the library as pip knows it.
        purpose: What needs it, as the subject of the message.
        error: Class of the error.

    Raises:
        GDPOError: Of the class `error`.
    """
    try:
        yield
    except ModuleNotFoundError as problem:
        raise error(
            f"{purpose} needs {package}, which is not installed ({problem.name!r} is missing): run "
            f"`pip install {package}`."
        ) from problem
    except Exception as problem:
        reason = shorten(" ".join(f"{type(problem).__name__}: {problem}".split()), 200)
        raise error(
            f"{purpose} needs {package}, which cannot be loaded ({reason}): run "
            f"`pip install --force-reinstall {package}`."
        ) from problem
