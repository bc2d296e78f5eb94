"""Damages workflows and settings at random, as a file from a stranger may be."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from hostile_graphs import TEXTS

Graph = dict[str, Any]

# Texts of values that are written into the file as they are.
RAW = [
    *("null", "true", "-1", "0", "0.5", "1e308", "-1e308", "1e-320", "1e999", "-1e999", "NaN"),
    *("Infinity", "9007199254740993", "9" * 300, "9" * 4200, "9" * 9000, '"\\ud800"', '""', "[]"),
    *("{}", "[[]]", '["1"]', '["1", 0, 0]', '["1", 0.5]', '["1", true]', '["1", null]', "[1, 0]"),
    *(
        '["1", 1e300]',
        '["1", %s]' % ("9" * 399),
        "[" * 9000,
        "[" * 600 + "]" * 600,
        '{"a": 1, "a": 2}',
    ),
    *("[" + "0," * 5000 + "0]", '{"%s": 1}' % ("x" * 5000), '"..\\/..\\/secret"', '"a\\u0000b"'),
]
_MARK = "\a"  # stands for a raw text in a workflow that is not written yet


class Damage:
    """Random damage, which follows from a seed."""

    def __init__(self, seed: int, outside: str) -> None:
        """Begin.

        Args:
            seed: the same one does the same.
            outside: a path that no workflow may reach.
        """
        self._random = random.Random(seed)
        self._damaged = ""  # a node that was changed, whose inputs a setting likes to set
        self._texts = [*TEXTS.values(), outside, f"{outside}/secret.txt", "..", "__class__", "a,b"]

    def file(self, graph: Graph) -> tuple[bytes, str]:
        """Return the damaged workflow as a file, and what was done."""
        graph, done = copy.deepcopy(graph), []
        hows: list[Callable[[Graph], None]] = [self._value, self._value, self._value, self._link]
        hows += [self._link, self._drop, self._double, self._rename, self._many]
        hows += [self._field, self._field, self._field]
        for how in self._random.choices(hows, k=self._random.choice([0, 1, 1, 2, 4])):
            how(graph)
            done.append(how.__name__)
        text = json.dumps(graph, ensure_ascii=self._random.random() < 0.8)
        text = re.sub(r'"\\u0007"', lambda _: self._random.choice(RAW), text)
        data = text.encode("utf-8", "surrogatepass")
        if self._random.random() < 0.15:
            data = self._bytes(data)
            done.append("_bytes")
        return data, " ".join(done)

    def setting(self, graph: Graph) -> str:
        """Return a text for `--set`, often of an input that there is."""
        node_id, name = self._random.choice(list(_inputs(graph)))
        title = graph[node_id].get("_meta", {}).get("title", "")
        node = self._random.choice([node_id, self._damaged or node_id, title, self._text()])
        field = self._random.choice([name, name, self._text()])
        value = self._random.choice(["1", "0.5", "text", self._text(), self._random.choice(RAW)])
        dot, equals = (
            self._random.choice([".", ".", ".", ".", "", ".."]),
            self._random.choice("===  "),
        )
        return f"{node}{dot}{field}{equals.strip()}{value}"

    def _text(self) -> str:
        return self._random.choice(self._texts)

    def _odd(self) -> object:
        return self._random.choice([
            _MARK,
            _MARK,
            self._text(),
            [self._text(), 0],
            {self._text(): 1},
        ])

    def _id(self, graph: Graph) -> str:
        return self._random.choice(list(graph))

    def _value(self, graph: Graph) -> None:
        """An input has another value, another name, or is gone."""
        places = list(_inputs(graph))
        if not places:
            return
        node_id, name = self._random.choice(places)
        inputs = graph[node_id]["inputs"]
        action = self._random.choice(["odd", "odd", "swap", "drop", "rename"])
        value = inputs.pop(name)
        if action == "odd":
            inputs[name] = self._odd()
        elif action == "swap":
            other, field = self._random.choice(places)
            inputs[name] = graph[other]["inputs"].get(field, value)
        elif action == "rename":
            inputs[self._text()] = value

    def _link(self, graph: Graph) -> None:
        """A link goes to the node itself, to another or to none, or to an odd output."""
        places = [place for place in _inputs(graph) if _is_link(graph, *place)]
        if places:
            node_id, name = self._random.choice(places)
            source = self._random.choice([node_id, self._id(graph), self._id(graph), self._text()])
            number = self._random.choice([0, 0, 1, -1, 10**9, 0.0, 1.5, True, _MARK])
            graph[node_id]["inputs"][name] = [source, number]

    def _drop(self, graph: Graph) -> None:
        if len(graph) > 1:
            del graph[self._id(graph)]

    def _double(self, graph: Graph) -> None:
        graph[self._text()] = copy.deepcopy(graph[self._id(graph)])

    def _rename(self, graph: Graph) -> None:
        graph[self._text()] = graph.pop(self._id(graph))

    def _field(self, graph: Graph) -> None:
        """A node, its class, its inputs or its title is something else."""
        node_id = self._damaged = self._id(graph)
        field = self._random.choice(["class_type", "inputs", "inputs", "_meta", "", None])
        if field is None or not isinstance(graph[node_id], dict):
            graph[node_id] = self._odd()
        else:
            graph[node_id][field] = self._odd()

    def _many(self, graph: Graph) -> None:
        """There are very many nodes, or a node has very many inputs."""
        node_id = self._id(graph)
        node = graph[node_id]
        if self._random.random() < 0.5:
            is_small = len(json.dumps(node)) < 1000 and _MARK not in str(node)
            most = 12_000 if is_small and self._random.random() < 0.1 else 60
            count = self._random.randrange(most)
            graph.update({f"more {k}": node for k in range(count)})
        elif isinstance(node, dict) and isinstance(node.get("inputs"), dict):
            inputs = {**node["inputs"], **{f"more {k}": k for k in range(5000)}}
            graph[node_id] = {**node, "inputs": inputs}

    def _bytes(self, data: bytes) -> bytes:
        """Some bits are others, or the file is cut off."""
        place = self._random.randrange(len(data))
        if self._random.random() < 0.3:
            return data[:place]
        changed = bytes([data[place] ^ 1 << self._random.randrange(8)])
        return data[:place] + changed + data[place + 1 :]


def _inputs(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield each node with an input that it has."""
    for node_id, node in graph.items():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        yield from ((node_id, name) for name in inputs) if isinstance(inputs, dict) else ()


def _is_link(graph: Graph, node_id: str, name: str) -> bool:
    return isinstance(graph[node_id]["inputs"][name], list)
