"""Reads what a node class declares: its inputs, and how messages name its nodes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

from ...gdpo.errors import shorten
from .values import InputType, check_value

Graph = Mapping[str, Mapping]


@dataclass(frozen=True)
class Declared:
    """One input as its node class declares it."""

    kind: InputType
    options: Mapping[str, object]
    required: bool

    @property
    def type_name(self) -> str:
        """Return the type in words."""
        return self.kind if isinstance(self.kind, str) else "COMBO"

    def check(self, value: object) -> object:
        """Return the literal `value` as the node gets it; see `values.check_value`."""
        return check_value(self.kind, self.options, value)


def declared_inputs(node_class: type) -> dict[str, Declared]:
    """Return the visible inputs of a node class, in their order."""
    types = node_class.INPUT_TYPES()
    return {
        name: Declared(spec[0], spec[1] if len(spec) > 1 else {}, group == "required")
        for group in ("required", "optional")
        for name, spec in types.get(group, {}).items()
    }


def is_link(value: object) -> TypeGuard[list]:
    """Tell whether an input's value has the form of a link: `["node id", output number]`."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], (int, float))
        and not isinstance(value[1], bool)
    )


def node_label(node_id: str, class_type: object) -> str:
    """Tell how messages name a node: `node 4 (GDPOTrain)`. Both words come from the file."""
    plain = isinstance(class_type, str) and re.fullmatch(r"[\w .:|/()+-]{1,80}", class_type)
    return f"node {shown_id(node_id)} ({class_type if plain else shorten(class_type)})"


def shown_id(node_id: str) -> str:
    """Return a node's id as messages show it; quoted and shortened if it is an odd one."""
    return node_id if re.fullmatch(r"[\w.:-]{1,40}", node_id) else shorten(node_id, 40)


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else the empty text."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
