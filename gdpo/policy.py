"""The policy: a frozen causal language model, shared, plus an optional LoRA adapter, exchangeable.

The base is loaded once and never changed. An adapter is data (a configuration and tensors on the CPU);
`attached` puts it onto the base for as long as a `with` block lasts. Base and several tuned policies can
therefore be compared side by side without a second copy of the weights.
"""

from __future__ import annotations

import json
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from .adapter_config import check_adapter_config
from .errors import PolicyError, shorten
from .prompts import Prompt
from .templates import time_limit

logger = logging.getLogger(__name__)

_ADAPTER_FILE = "adapter_model.safetensors"


class Occupancy:
    """Who uses a base: one thread at a time, which may enter again."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *_error: object) -> None:
        self._depth -= 1
        self._lock.release()

    @contextmanager
    def if_idle(self) -> Iterator[bool]:
        """Keep everyone out of a base that nobody uses, and yield whether nobody does; never waits."""
        free = self._lock.acquire(blocking=False)
        try:
            yield free and not self._depth
        finally:
            if free:
                self._lock.release()


@dataclass(frozen=True, eq=False)
class Base:
    """A frozen causal language model in evaluation mode, with its tokenizer.

    `source` is the folder or hub id it came from, `precision` what "auto" became, `device` where it works:
    `put_away` moves it off there, and the next use brings it back. `digest` stands for its files' content.
    """

    model: Any
    tokenizer: Any
    source: str
    precision: str
    device: str
    digest: str
    lock: Occupancy = field(default_factory=Occupancy, repr=False)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter as plain data: peft's configuration as JSON, and its tensors on the CPU."""

    config: dict[str, Any]
    state: dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Policy:
    """A base, the adapter that was trained for it (or none), and the run folder it came from."""

    base: Base
    adapter: Adapter | None = None
    run: Path | None = None


def put_away(base: Base) -> bool:
    """Move an idle base to the CPU's memory, and tell whether it is there now; one in use stays.

    So does one that cannot be moved, as some versions of bitsandbytes cannot: it goes with its last user.
    """
    with base.lock.if_idle() as idle:
        if not idle:
            return False
        try:
            _move(base.model, "cpu")
        except (ValueError, NotImplementedError) as error:
            logger.warning("%r stays on %s: %s", base.source, base.device, error)
            return False
        return True


def bring_back(base: Base) -> None:
    """Move a base to its device, unless it is there."""
    with base.lock:
        _move(base.model, base.device)


def _move(model: Any, device: str) -> None:
    wanted = torch.device(device)
    here = model.device
    if here.type != wanted.type or wanted.index not in {None, here.index}:
        with torch.inference_mode(
            False
        ):  # or its weights could never again take part in a training
            model.to(wanted)


@contextmanager
def attached(policy: Policy) -> Iterator[Any]:
    """Yield the model with the policy's adapter on it, in evaluation mode; take it off again.

    The base is locked meanwhile: two policies on one base take turns.
    """
    with policy.base.lock:
        bring_back(policy.base)
        if policy.adapter is None:
            yield policy.base.model
            return
        model = wrap(policy.base.model, policy.adapter.config)
        try:
            _load_state(model, policy.adapter)
            yield model.eval()
        finally:
            _unwrap(model)


@contextmanager
def trainable(policy: Policy, *, rank: int, alpha: int, seed: int) -> Iterator[Any]:
    """Yield the base with a trainable adapter: a copy of the policy's own, or a fresh LoRA.

    A fresh one covers all linear layers (which matches full fine-tuning in RL, "LoRA without regret")
    and starts as the identity; its initial values depend on `seed` alone.
    """
    config = policy.adapter.config if policy.adapter else fresh_config(rank, alpha)
    cards = [torch.device(policy.base.device)] if policy.base.device != "cpu" else []
    with policy.base.lock:
        bring_back(policy.base)
        with torch.random.fork_rng(devices=cards):
            torch.manual_seed(seed)
            model = wrap(policy.base.model, config)
        try:
            if policy.adapter:
                _load_state(model, policy.adapter)
            yield model.eval()  # evaluation mode: dropout would make the policy differ from its samples
        finally:
            _unwrap(model)


def read_adapter(model: Any) -> Adapter:
    """Copy the adapter that is on `model` to the CPU."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    config = model.peft_config["default"].to_dict()
    return Adapter(_plain(config), {k: v.detach().cpu().clone() for k, v in state.items()})


def write_adapter(model: Any, adapter: Adapter) -> None:
    """Copy `adapter` into the adapter that is on `model`."""
    _load_state(model, adapter)


def save_adapter(adapter: Adapter, folder: Path) -> None:
    """Write peft's two standard files into `folder`, so that any peft program can load them."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(adapter.config, indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    save_file(adapter.state, folder / _ADAPTER_FILE)


def load_adapter(folder: Path) -> Adapter:
    """Read an adapter from peft's two standard files.

    Raises:
        PolicyError: A file is missing or damaged, or has settings that this pack never writes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        config = check_adapter_config(config, fresh_config(1, 1), str(folder))
        return Adapter(config, load_file(folder / _ADAPTER_FILE))
    except (OSError, ValueError, SafetensorError) as error:
        raise PolicyError(
            f"The adapter in {str(folder)!r} cannot be read ({error}); train again or restore the folder."
        ) from error


def render_prompt(tokenizer: Any, prompt: Prompt) -> str:
    """The text that the model is given: by its chat template, or the plain contents without one."""
    if not tokenizer.chat_template:
        return "\n\n".join(content for _, content in prompt.messages)
    messages = [{"role": role, "content": content} for role, content in prompt.messages]
    try:
        with time_limit():
            return tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PolicyError(
            f"The model's chat template refuses the prompt {shorten(prompt.text)} ({reason}); "
            "many templates know no system role: leave `system` empty."
        ) from error


def encode_prompt(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of the rendered prompt; a chat template brings its own special tokens."""
    plain = not tokenizer.chat_template
    return list(tokenizer(render_prompt(tokenizer, prompt), add_special_tokens=plain)["input_ids"])


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Ids of the tokens that end a completion."""
    ids = getattr(model.generation_config, "eos_token_id", None)
    ids = set(ids if isinstance(ids, list) else [ids]) | {tokenizer.eos_token_id}
    return sorted(i for i in ids if i is not None)


def fresh_config(rank: int, alpha: int) -> dict[str, Any]:
    """Configuration of a new adapter on all linear layers, as plain JSON."""
    from peft import LoraConfig

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    return _plain(config.to_dict())


def wrap(model: Any, config: dict[str, Any]) -> Any:
    """The model with an adapter of this configuration on it.

    Raises:
        PolicyError: The architecture takes none.
    """
    from peft import PeftConfig, get_peft_model

    # The model's own folder: an adapter that was trained elsewhere may name another path.
    config = {**config, "base_model_name_or_path": model.name_or_path}
    with warnings.catch_warnings():  # peft still reads a name that transformers 5 has renamed
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        try:
            return get_peft_model(model, PeftConfig.from_peft_type(**config))
        except ValueError as error:
            raise PolicyError(
                f"LoRA cannot be put on {model.config.model_type!r} models ({' '.join(str(error).split())}); use "
                "another model."
            ) from error


def _unwrap(model: Any) -> None:
    base = model.unload()
    if hasattr(base, "peft_config"):  # peft leaves it behind and would warn at the next adapter
        del base.peft_config
    base.requires_grad_(False)


def _load_state(model: Any, adapter: Adapter) -> None:
    from peft import set_peft_model_state_dict

    result = set_peft_model_state_dict(model, adapter.state)
    missing = [key for key in result.missing_keys if "lora_" in key]
    if missing or result.unexpected_keys:
        key = (missing or result.unexpected_keys)[0]
        raise PolicyError(
            f"The adapter does not fit this model (first difference: {key!r}); "
            "load the base model that it was trained on."
        )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Make peft's configuration JSON: sets become sorted lists, enums their values."""

    def convert(value: object) -> object:
        return (
            sorted(value)
            if isinstance(value, (set, frozenset))
            else getattr(value, "value", str(value))
        )

    return json.loads(json.dumps(config, default=convert))
