"""Workflows of any size that a stranger may hand in, by what is odd about them."""

from __future__ import annotations

from collections.abc import Callable

REWARD = "GDPODefineRewardPoliteness"
COMBINE = "GDPOCombineRewards"
SOCKETS = 16  # of COMBINE
LAYERS_OF = 10  # nodes that are each linked to all of the next layer


def node(class_type: object, **inputs: object) -> dict:
    """One node."""
    return {"class_type": class_type, "inputs": inputs}


def reward(gate: str | None = None, **inputs: object) -> dict:
    """A reward, whose gate is the node of this id."""
    return node(REWARD, name="a", **({} if gate is None else {"gate": [gate, 0]}), **inputs)


def train(source: object) -> dict:
    """An output node whose only good link is that to `source`."""
    return node("GDPOTrain", rewards=[source, 0], run_name="a")


def _chain(size: int) -> dict:
    """A chain of gates behind as many output nodes."""
    half = size // 2
    gates = {str(k): reward(str(k - 1) if k else None) for k in range(half)}
    return gates | {f"out{k}": train(str(half - 1)) for k in range(half)}


def _layers(size: int) -> dict:
    """Layers with every link from one to the next: the number of ways through them is exponential."""
    made = {"out": train("0_0")}
    for layer in range(size // LAYERS_OF):
        below = {f"reward_{k + 1}": [f"{layer + 1}_{k}", 0] for k in range(LAYERS_OF)}
        made |= {f"{layer}_{k}": node(COMBINE, **below) for k in range(LAYERS_OF)}
    return made


def _self_links(size: int) -> dict:
    inputs = {f"reward_{k}": ["self", 0] for k in range(1, SOCKETS + 1)}
    made = {"self": node(COMBINE, **inputs)}
    return made | {f"out{k}": node("GDPOTrain", rewards=[f"out{k}", 0]) for k in range(size)}


def _nested(size: int) -> dict:
    inner: object = []
    for _ in range(60):
        inner = [inner]
    return {str(k): node("GDPOChat", gguf=[k] * 20, message=inner) for k in range(size)}


# Name -> the workflow with so many odd things; all are refused.
SHAPES: dict[str, Callable[[int], dict]] = {
    "chain of gates, many outputs": _chain,
    "layers": _layers,
    "links to the node itself": _self_links,
    "long cycle": lambda n: (
        {str(k): reward(str((k + 1) % n)) for k in range(n)} | {"out": train("0")}
    ),
    "fan": lambda n: {"r": reward(size="x")} | {str(k): train("r") for k in range(n)},
    "links to nowhere": lambda n: {str(k): train(f"no {k}") for k in range(n)},
    "unknown classes": lambda n: {str(k): node(f"GDPOTrain{k}") for k in range(n)},
    "classes of other kinds": lambda n: {str(k): node([k]) for k in range(n)},
    "unknown inputs of one node": lambda n: {
        "r": reward(**{f"name_{k}": k for k in range(n)}),
        "out": train("r"),
    },
    "not in the menu": lambda n: {
        "r": reward(),
        **{str(k): node(COMBINE, reward_1=["r", 0], method=k) for k in range(n)},
        **{f"out{k}": train(str(k)) for k in range(n // 8)},
    },
    "nested lists": _nested,
    "long output numbers": lambda n: {
        "r": reward(),
        **{str(k): node("GDPOTrain", rewards=["r", 10**1000]) for k in range(n)},
    },
    "nothing but nodes": lambda n: {str(k): None for k in range(n)},
    "inputs that are lists": lambda n: {str(k): {**reward(), "inputs": [k]} for k in range(n)},
}

_LONG = "\x1b[31m\u202e\U000e0001支" * 3000
# Texts that are put in for ids, classes, names of inputs, values and titles.
TEXTS = {
    "long": "x" * 100_000,
    "controls": "\x1b]0;x\x07\r\n\t" * 30,
    "unassigned": _LONG,
    "half characters": "\ud800\udfff" * 50,
    "NUL": "\0",
    "empty": "",
    "quotes": "'\"\\" * 100,
}


def with_text(text: str, count: int = 100) -> dict:
    """A workflow with a text of a stranger wherever one can stand, in many nodes."""
    made = {f"{text}{k}": reward(text, **{text: text}) for k in range(count)}
    made |= {f"{k}{text}": train(f"{text}{k}") for k in range(count)}
    made |= {f"c{k}{text}": node(f"{text}{k}", gate=[text, 0]) for k in range(count)}
    made |= {f"v{k}": node(text, name={text: text}, gate=[text, 10**4299]) for k in range(count)}
    return made | {"t": {**train(text), "_meta": {"title": text}}}
