"""Prints which room of the pack imports which, and fails on a circle or an arrow upwards.

    python scripts/import_graph.py                   check this checkout: exit code 0 or 1
    python scripts/import_graph.py --root FOLDER     read another checkout, an older one for example

A room is a folder or a single file directly in `gdpo/`, or a folder in `nodes/`; the files that lie in `nodes/`
itself are one room. Imports inside functions count; imports for the type checker alone do not.
`FLOORS` is the one place that says what may import what. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

Graph = dict[str, set[str]]

# From the ground up. A room may import from its own floor and from the floors below it.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        *("gdpo.errors", "gdpo.options", "gdpo.settings", "gdpo.prompts", "gdpo.progress"),
        *("gdpo.polling", "gdpo.allocator", "gdpo.out_of_memory", "gdpo.to_json", "gdpo.starter"),
        *("gdpo.optimizers", "gdpo.version", "gdpo.identity", "gdpo.atomic", "gdpo.libraries"),
        *("gdpo.threads", "gdpo.printable", "gdpo.scratch"),
        *("gdpo.plain_files", "gdpo.strict_json"),
    ),
    ("gdpo.workers",),
    ("gdpo.unpacking",),
    ("gdpo.policies", "gdpo.rewards"),
    ("gdpo.rollouts", "gdpo.llamacpp"),
    ("gdpo.objective", "gdpo.update", "gdpo.runs", "gdpo.plotting", "gdpo.export"),
    ("gdpo.memory", "gdpo.evaluation"),
    ("gdpo.training",),
    ("gdpo", "gdpo.library", "gdpo.trained_run"),
    ("nodes.checks", "nodes.comfy"),
    ("nodes",),
    ("nodes.headless",),
)


def main(arguments: list[str]) -> int:
    """Print the graph of one checkout; the exit code is 1 if an import breaks the order."""
    parser = argparse.ArgumentParser(description="Print and check the import graph of the pack.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    root = parser.parse_args(arguments).root
    sources = read_sources(root)
    if not sources:
        parser.error(f"{root} has no Python files in gdpo/ or nodes/; name a checkout of the pack")
    modules = {name: imported_modules(name, tree, sources) for name, tree in sources.items()}
    rooms = between_rooms(modules)
    faults = find_faults(modules, rooms)
    report = [*describe(rooms), "", count_arrows(modules, rooms), ""]
    report += faults or ["No circle, and no arrow upwards."]
    sys.stdout.write("\n".join(report) + "\n")
    return 1 if faults else 0


# --- reading ---------------------------------------------------------------------------------------


def read_sources(root: Path) -> dict[str, ast.Module]:
    """Each module's dotted name and its syntax tree."""
    files = [path for top in ("gdpo", "nodes") for path in sorted((root / top).rglob("*.py"))]
    return {module_name(root, path): ast.parse(path.read_bytes()) for path in files}


def module_name(root: Path, path: Path) -> str:
    """The dotted name of a file; a package is named by its folder."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(name: str, tree: ast.Module, known: dict[str, ast.Module]) -> set[str]:
    """Names of the pack's own modules that a module imports, wherever in it the import stands."""
    is_package = any(other.startswith(f"{name}.") for other in known)
    package = name.split(".") if is_package else name.split(".")[:-1]
    found = set()
    for node in live_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            members = {alias.name: f"{base}.{alias.name}".lstrip(".") for alias in node.names}
            found |= {path if path in known else base for path in members.values()}
    return {path for path in found if path in known} - {name}


def live_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a syntax tree except what stands under `if TYPE_CHECKING:`."""
    yield tree
    children = ast.iter_child_nodes(tree)
    if isinstance(tree, ast.If) and ast.unparse(tree.test).endswith("TYPE_CHECKING"):
        children = tree.orelse
    for child in children:
        yield from live_nodes(child)


# --- the graph -------------------------------------------------------------------------------------


def room_of(module: str, known: set[str]) -> str:
    """The room of a module: `gdpo.rollouts` for all files in that folder, `nodes` for a file beside them."""
    room = ".".join(module.split(".")[:2])
    is_file = not any(other.startswith(f"{room}.") for other in known)
    return "nodes" if room.startswith("nodes.") and is_file else room


def between_rooms(modules: Graph) -> Graph:
    """The arrows between rooms that follow from those between modules."""
    known = set(modules)
    rooms: Graph = {room_of(name, known): set() for name in sorted(known)}
    for name, targets in modules.items():
        home = room_of(name, known)
        rooms[home] |= {room_of(target, known) for target in targets} - {home}
    return rooms


def floor_of(room: str) -> int | None:
    """The number of a room's floor, from 0; None if `FLOORS` does not name it."""
    return next((number for number, floor in enumerate(FLOORS) if room in floor), None)


def reachable(graph: Graph, start: str) -> set[str]:
    """Everything that a node imports, directly or by way of others."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = graph[waiting.pop()] - seen
        seen |= new
        waiting += new
    return seen


def find_circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes that import each other, directly or by way of others."""
    reached = {name: reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def find_faults(modules: Graph, rooms: Graph) -> list[str]:
    """One line for each import or room that breaks the order."""
    faults = [f"circle of rooms: {' <-> '.join(group)}" for group in find_circles(rooms)]
    faults += [f"circle of modules: {' <-> '.join(group)}" for group in find_circles(modules)]
    strangers = [room for room in rooms if floor_of(room) is None]
    faults += (
        [f"without a floor, to be entered in FLOORS: {', '.join(strangers)}"] if strangers else []
    )
    for name, targets in sorted(modules.items()):
        here = floor_of(room_of(name, set(modules)))
        for target in sorted(targets):
            there = floor_of(room_of(target, set(modules)))
            if here is not None and there is not None and there > here:
                faults.append(f"arrow upwards: {name} -> {target}")
    return faults


# --- the report ------------------------------------------------------------------------------------


def describe(rooms: Graph) -> list[str]:
    """The rooms by floor with what they import, the top floor first."""
    lines = []
    for number in range(len(FLOORS) - 1, -1, -1):
        there = [room for room in FLOORS[number] if room in rooms]
        lines += [f"floor {number}"] if there else []
        lines += [arrow_line(room, rooms[room]) for room in there]
    strangers = sorted(room for room in rooms if floor_of(room) is None)
    lines += ["without a floor"] if strangers else []
    return lines + [arrow_line(room, rooms[room]) for room in strangers]


def arrow_line(room: str, targets: set[str]) -> str:
    """One room and what it imports."""
    return f"  {room} -> {', '.join(sorted(targets))}" if targets else f"  {room}"


def count_arrows(modules: Graph, rooms: Graph) -> str:
    """The size of the graph in one line."""
    return (
        f"{len(rooms)} rooms, {sum(map(len, rooms.values()))} arrows between them, "
        f"{len(find_circles(rooms))} circles of rooms, {len(find_circles(modules))} of modules"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
