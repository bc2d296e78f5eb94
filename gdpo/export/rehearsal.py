"""A conversion without the weights, before anything is trained: what the converter refuses is known hours earlier.

The converter names the tensors and writes the settings and the vocabulary of the base as it would after the training;
llama.cpp then reads a few prompts by that vocabulary, and has to read the tokens that the model is trained with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import ExportError, shorten
from ..llamacpp.runtime import LLAMA_WORKER, runtime_version
from ..policies.chat import encode_prompts
from ..policies.policy import Policy
from ..prompts import Prompt
from ..scratch import scratch_folder
from ..workers.process import run_worker
from .checks import ExportPlan
from .conversion import write_vocabulary
from .converter import CONVERT_WORKER
from .material import PROMPT_TEXTS
from .merge import write_surroundings
from .outline import outline

_lock = threading.Lock()
_passed: set[tuple[object, ...]] = set()


def rehearse(policy: Policy, plan: ExportPlan, poll: Callable[[], None] = lambda: None) -> None:
    """Let the converter write everything of an export but the weights; once for each base.

    Args:
        policy: What is to be exported; its weights do not matter.
        plan: Result of the checks.
        poll: Function that is called meanwhile; it may raise to stop.

    Raises:
        ExportError: The converter does not take the model, or llama.cpp would read prompts differently.
    """
    base = policy.base
    key = (base.digest, *base.texts.items(), str(plan.converter))
    with _lock:
        if key not in _passed:
            with scratch_folder("gdpo-") as folder:
                _rehearse(policy, plan, folder, poll)
            _passed.add(key)


def _rehearse(policy: Policy, plan: ExportPlan, folder: Path, poll: Callable[[], None]) -> None:
    model, target = folder / "model", folder / "vocabulary.gguf"
    model.mkdir()
    write_surroundings(policy.base.model, plan.source, model)
    request = {
        "task": "Converting to GGUF",
        "converter": str(plan.converter),
        "model": str(model),
        "name": "vocabulary",
        "outputs": [["F16", str(target)]],
        "vocabulary": write_vocabulary(policy, folder),
        "vocabulary_only": True,
        "shapes": outline(policy.base.model),
    }
    try:
        run_worker(CONVERT_WORKER, request, poll=poll)
    except ExportError as error:
        raise ExportError(str(error).replace(str(model), policy.base.source)) from error
    if runtime_version() is not None:
        _compare_tokens(policy, target, poll)


def _compare_tokens(policy: Policy, target: Path, poll: Callable[[], None]) -> None:
    tokenizer = policy.base.tokenizer
    made = encode_prompts(
        tokenizer, [Prompt((("user", text),)) for text in PROMPT_TEXTS], poll=poll
    )
    request = {
        "task": f"Reading the vocabulary of {policy.base.source!r} with llama.cpp",
        "command": "tokens",
        "gguf": str(target),
        "texts": [one.text for one in made],
        "add_bos": not tokenizer.chat_template,
    }
    found = run_worker(LLAMA_WORKER, request, poll=poll)[0]["tokens"]
    for one, ids in zip(made, found, strict=True):
        if ids != one.ids:
            raise ExportError(
                f"llama.cpp would read {shorten(one.text, 40)} as the tokens {shorten(ids)}, the model's tokenizer reads "
                f"{shorten(one.ids)}: llama.cpp does not know this tokenizer, or files of it are missing in "
                f"{policy.base.source!r}; get the whole model, with tokenizer.model if it has one."
            )
