"""What a value or a function is, as JSON: equal for equal ones, different for different ones.

A run goes on only with the very rewards that it began with. Numbers and texts speak for themselves; a function is
told apart by its source, by the values that it was closed over and by the plain functions and constants of its module
that it uses. Bytecode would not do: it changes with Python's version, and sets in it from process to process.
"""

from __future__ import annotations

import ast
import enum
import functools
import hashlib
import inspect
import math
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

_PLAIN = (bool, int, str, type(None))


class UnidentifiedError(ValueError):
    """A value has no JSON form that would tell it from others; the message is a noun phrase for it."""


def identify(value: Any, seen: frozenset[int] = frozenset()) -> Any:
    """Return the value as JSON.

    Args:
        value: A number, text, collection, path, enumeration, dataclass, function, class or module.
        seen: Functions that are being identified, which may call themselves.

    Raises:
        UnidentifiedError: The value is none of these, or not finite.
    """
    if isinstance(value, enum.Enum):
        return {"enum": f"{_name(type(value))}.{value.name}"}
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnidentifiedError(f"the number {value!r}")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [identify(item, seen) for item in value]
    if isinstance(value, (set, frozenset)):
        return {"set": sorted((identify(item, seen) for item in value), key=repr)}
    if isinstance(value, Mapping):
        return {"map": [[identify(k, seen), identify(v, seen)] for k, v in value.items()]}
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, ModuleType):
        return {"module": value.__name__}
    if isinstance(value, type):
        return {"class": _name(value), "code": _source(value)}
    if is_dataclass(value):
        return {"class": identify(type(value), seen), "fields": identify_fields(value, seen)}
    return _identify_callable(value, seen)


def identify_fields(value: Any, seen: frozenset[int] = frozenset()) -> dict[str, Any]:
    """Return all fields of a dataclass instance as JSON.

    Raises:
        UnidentifiedError: A field's value cannot be told from others.
    """
    return {item.name: identify(getattr(value, item.name), seen) for item in fields(value)}


def _identify_callable(value: Any, seen: frozenset[int]) -> Any:
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return {"partial": [identify(part, seen) for part in parts]}
    if isinstance(value, MethodType):
        return {"method": value.__name__, "of": identify(value.__self__, seen)}
    if isinstance(value, BuiltinFunctionType):
        return {"function": _name(value)}
    if isinstance(value, FunctionType):
        return _identify_function(value, seen)
    raise UnidentifiedError(f"a {type(value).__name__}")


def _identify_function(function: FunctionType, seen: frozenset[int]) -> Any:
    if id(function) in seen:
        return {"function": _name(function)}
    seen = seen | {id(function)}
    code = function.__code__
    cells = [_content(cell) for cell in function.__closure__ or ()]
    used = {
        name: identify(function.__globals__[name], seen)
        for name in sorted(_global_names(code))
        if _is_told_apart(function.__globals__.get(name), function)
    }
    return {
        "function": _name(function),
        "code": _digest(_function_source(function)),
        "defaults": identify([function.__defaults__, function.__kwdefaults__], seen),
        "closure": identify(cells, seen),
        "uses": used,
    }


def _is_told_apart(value: Any, function: FunctionType) -> bool:
    """Tell whether a global counts: constants, and functions of the same module; libraries are their versions' matter."""
    if isinstance(value, FunctionType):
        return value.__module__ == function.__module__
    return type(value) in {int, float, str, bool, tuple, frozenset}


def _global_names(code: CodeType) -> set[str]:
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    return set(code.co_names).union(*map(_global_names, inner))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _function_source(function: FunctionType) -> str:
    """Return the function's source without comments and layout."""
    code = function.__code__
    try:
        tree = ast.parse("".join(inspect.findsource(function)[0]))
    except (OSError, TypeError, ValueError, SyntaxError):
        tree = ast.Module([], [])
    found = [node for node in ast.walk(tree) if _start(node) == (code.co_name, code.co_firstlineno)]
    if len(found) > 1 and sys.version_info >= (3, 11):  # lambdas on one line
        places = set(code.co_positions())
        found = [n for n in found if isinstance(n, ast.Lambda) and _place(n.body) in places]
    if len(found) != 1:
        raise UnidentifiedError(
            f"the function {function.__qualname__!r}, whose source cannot be read (write it in a file or a notebook "
            "cell, on a line of its own)"
        )
    return ast.unparse(found[0])


def _start(node: ast.AST) -> tuple[str, int] | None:
    """Return the name and first line of a function, as its code object has them."""
    if isinstance(node, ast.Lambda):
        return "<lambda>", node.lineno
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name, min([node.lineno, *(part.lineno for part in node.decorator_list)])
    return None


def _place(node: ast.expr) -> tuple[int | None, ...]:
    """Return lines and columns, in the order of `co_positions`."""
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _source(owner: type) -> str | None:
    """Return a digest of a class's source; None of one whose source cannot be read."""
    try:
        return _digest(inspect.getsource(owner))
    except (OSError, TypeError):
        return None


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
