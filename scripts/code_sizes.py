"""Prints how long the files and functions of `gdpo/` and `nodes/` are.

    python scripts/code_sizes.py                   measure this checkout
    python scripts/code_sizes.py --root FOLDER     measure another checkout, an older one for example

A function's length runs from `def` to its end, without its docstring. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

LONGEST = 5  # files and functions that are named


def main(arguments: list[str]) -> int:
    """Print the sizes of one checkout."""
    parser = argparse.ArgumentParser(description="Print the lengths of files and functions.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    root = parser.parse_args(arguments).root
    sys.stdout.write("\n".join(measure_code(root)) + "\n")
    return 0


def measure_code(root: Path) -> list[str]:
    """Counts of files, lines and functions, and the longest of them with their lines."""
    paths = [path for top in ("gdpo", "nodes") for path in sorted((root / top).rglob("*.py"))]
    files = [(len(path.read_bytes().splitlines()), str(path.relative_to(root))) for path in paths]
    functions = [
        (function_length(node), f"{path.relative_to(root)}:{node.name}")
        for path in paths
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [
        f"{len(files)} files, {sum(length for length, _ in files)} lines, "
        f"{sum(length > 200 for length, _ in files)} files over 200 lines, "
        f"{sum(length > 30 for length, _ in functions)} functions over 30",
        f"longest files: {name_longest(files)}",
        f"longest functions: {name_longest(functions)}",
    ]


def name_longest(named: list[tuple[int, str]]) -> str:
    """Return the longest few, with their lines."""
    return ", ".join(f"{name} {length}" for length, name in sorted(named, reverse=True)[:LONGEST])


def function_length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return lines of a function from `def` to its end, without its docstring."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is None:
        return total
    text = node.body[0]
    return total - ((text.end_lineno or text.lineno) - text.lineno + 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
