"""Small node classes, and workflows made of them."""

from __future__ import annotations

from loaded_pack import submodule

errors = submodule("gdpo.errors")
workflow = submodule("nodes.headless.workflow")
workflow_file = submodule("nodes.headless.workflow_file")

RAN: list[str] = []


class Number:
    RETURN_TYPES = ("INT", "NOTE")
    FUNCTION = "give"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {"default": 1, "min": 0, "max": 9})}}

    def give(self, value):
        RAN.append(f"number {value}")
        return (value, f"note {value}")


class Settings:
    RETURN_TYPES = ("SETTINGS",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"label": ("STRING", {}), "mode": (["fast", "slow"], {})},
            "optional": {
                "rate": ("FLOAT", {"min": 0.0, "max": 1.0}),
                "steps": ("INT", {"min": 1, "max": 100}),
                "exact": ("BOOLEAN", {}),
                "amount": ("INT,FLOAT", {}),
                "anything": ("*", {}),
            },
        }

    def make(self, **values):
        return (values,)


class Add:
    RETURN_TYPES = ("INT",)
    FUNCTION = "add"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"a": ("INT", {"forceInput": True})},
            "optional": {"b": ("INT", {}), "note": ("NOTE,STRING", {}), "any": ("*", {})},
        }

    def add(self, a, **others):
        RAN.append(f"add {sorted(others)}")
        return (a + others.get("b", 0),)


class Show:
    RETURN_TYPES = ()
    FUNCTION = "show"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"value": ("INT,NOTE,SETTINGS", {})},
            "optional": {"extra": ("SETTINGS", {})},
            "hidden": {"unique_id": "UNIQUE_ID", "graph": ("PROMPT",), "png": "EXTRA_PNGINFO"},
        }

    def show(self, value, unique_id, graph, png, extra=None):
        RAN.append(f"show {unique_id}")
        return {"ui": {"text": [str(value)], "nodes": [len(graph)], "png": [png]}}


class Picky(Show):
    @classmethod
    def VALIDATE_INPUTS(cls, value=None):
        return True if value is None or value != 5 else "five is not wanted"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("INT", {})}, "hidden": Show.INPUT_TYPES()["hidden"]}


class Fails(Number):
    def give(self, value):
        raise errors.RewardError("no reward today")


class Forgetful(Number):
    def give(self, value):
        return (value,)


CLASSES = {
    "Number": Number,
    "Settings": Settings,
    "Add": Add,
    "Show": Show,
    "Picky": Picky,
    "Fails": Fails,
    "Forgetful": Forgetful,
}


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def shown(source="1", output=0):
    return node("Show", value=[source, output])


def run(graph, **options):
    RAN.clear()
    return workflow.run_workflow(graph, CLASSES, **options)


def settings(**values):
    """A workflow whose only fault is in the given values."""
    return {"1": node("Settings", **{"label": "x", "mode": "fast", **values}), "9": shown()}


def titled(class_type, title, **inputs):
    return {**node(class_type, **inputs), "_meta": {"title": title}}


def apply(graph, *given):
    return workflow_file.apply_settings(graph, given, CLASSES)
