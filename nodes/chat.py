"""Chat: one question to an exported GGUF, answered by llama.cpp."""

from __future__ import annotations

from pathlib import Path

from ..gdpo.errors import WorkflowError
from ..gdpo.export.pipeline import GGUF
from ..gdpo.llamacpp.generate import generate
from ..gdpo.prompts import make_prompt
from .checks.guard import guarded
from .checks.inputs import real, socket, text, whole
from .comfy import progress


class GDPOChat:
    """Gives the answer of a GGUF to one message."""

    DESCRIPTION = (
        "Asks the exported file, through llama.cpp and the chat template inside the file: what you read is what "
        "any other program that runs the file will say. Needs llama-cpp-python."
    )
    CATEGORY = "GDPO/use"
    SEARCH_ALIASES = ("LLM", "ask", "generate text", "llama.cpp", "GDPO")
    RETURN_TYPES = ("STRING",)
    RETURN_NAMES = ("answer",)
    OUTPUT_TOOLTIPS = ("The answer, as text.",)
    FUNCTION = "chat"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        """Return the node's inputs, as ComfyUI asks for them."""
        return {
            "required": {
                "gguf": socket("GDPO_GGUF", "The file to ask (from Export GGUF)."),
                "message": text("Hello!", "What you say to the model.", multiline=True),
            },
            "optional": {
                "system": text(
                    "",
                    "System message; empty for none.",
                    multiline=True,
                    hint="system message (optional)",
                ),
                "max_new_tokens": whole(
                    128, "Longest answer, in tokens; a longer one is cut.", low=1, high=32768
                ),
                "temperature": real(
                    0.7, "0 always takes the likeliest token; higher varies more.", low=0, high=5
                ),
                "rng_seed": whole(0, "Same seed, same answer; change it for another one."),
            },
            "hidden": {"unique_id": "UNIQUE_ID"},
        }

    @guarded
    def chat(
        self,
        gguf: GGUF,
        message: str,
        system: str,
        max_new_tokens: int,
        temperature: float,
        rng_seed: int,
        unique_id: str | None = None,
    ) -> dict:
        """Answer the message; see `gdpo.llamacpp.generate.generate`."""
        if not message.strip():
            raise WorkflowError("input 'message': is empty; write what to say to the model")
        with progress.bar(unique_id, "chat") as bar:
            completions = generate(
                Path(gguf.path),
                [make_prompt(message, system=system.strip())],
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                seed=rng_seed,
                progress=bar,
            )
        answer = completions[0].text
        return {"ui": {"text": [answer]}, "result": (answer,)}
