"""Orders the nodes of a workflow, so that each runs after what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Reversible
from dataclasses import dataclass

from ...gdpo.errors import shorten
from .declared import Graph, is_link

# Nodes of a cycle that a message names; a file may hold a very long one.
_NAMED_NODES = 20

# The names of a node's declared inputs.
Names = Callable[[Mapping], Iterable[str]]


@dataclass(frozen=True)
class Cycle:
    """A cycle of links; made to text only if it is shown, since there may be very many through one long id.

    Attributes:
        nodes: Ids from one node against the links, back to it where the cycle is not too long.
    """

    nodes: tuple[str, ...]

    def __str__(self) -> str:
        """Return the line of the error; the middle of a long cycle is left out."""
        shown = [shorten(key, 40) for key in self.nodes]
        ring = shown if self.nodes[-1] == self.nodes[0] else [*shown, "...", shown[0]]
        return f"the links form a cycle: {' -> '.join(ring)}; cut one of them"


def run_order(graph: Graph, outputs: Iterable[str], names: Names) -> tuple[list[str], list[Cycle]]:
    """Return the nodes that the outputs need, each after what it needs, and the cycles found on the way.

    Depth first without recursion: a file may hold a very long chain.

    Args:
        graph: Nodes whose class is known.
        outputs: Ids of the output nodes.
        names: Gives the names of a node's declared inputs.
    """
    order: list[str] = []  # a node stands here once it is finished
    cycles: list[Cycle] = []
    finished: set[str] = set()
    path: dict[str, Iterator[str]] = {}  # nodes being visited, each with its links still to follow

    def enter(node_id: str) -> None:
        if node_id in graph and node_id not in finished:
            path[node_id] = _sources(graph[node_id], names)

    for output in outputs:
        enter(output)
        while path:
            current = next(reversed(path))
            source = next(path[current], None)
            if source is None:
                order.append(current)
                finished.add(current)
                del path[current]
            elif source in path:
                cycles.append(_cycle(path, source))
            else:
                enter(source)
    return order, cycles


def _cycle(path: Reversible[str], source: str) -> Cycle:
    """Return the cycle from `source` against the links back to it, or the first nodes of a long one."""
    ring = [source]
    for node_id in reversed(path):
        ring.append(node_id)
        if node_id == source or len(ring) > _NAMED_NODES:
            break
    return Cycle(tuple(ring))


def _sources(node: Mapping, names: Names) -> Iterator[str]:
    """Yield the node ids that the declared inputs of `node` are linked to."""
    inputs = node.get("inputs", {})
    return (inputs[name][0] for name in names(node) if name in inputs and is_link(inputs[name]))
