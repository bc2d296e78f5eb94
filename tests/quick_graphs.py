"""The quick start's graph, changed."""

from __future__ import annotations

import json

from fence import TINY
from loaded_pack import ROOT

QUICK_START = ROOT / "workflows" / "quick_start.json"


def graph(**changes) -> dict:
    """The quick-start graph with inputs of the training replaced."""
    made = json.loads(QUICK_START.read_text(encoding="utf-8"))
    made["8"]["inputs"] |= {"run_name": "a", **TINY, **changes}
    return made


def without(made: dict, node_id: str, **changes) -> dict:
    return {**made, node_id: {**made[node_id], **changes}}


def gate(made: dict, node_id: str, source: str) -> dict:
    return without(made, node_id, inputs={**made[node_id]["inputs"], "gate": [source, 0]})
