"""The base: a frozen causal language model, loaded once and shared by every policy on it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

logger = logging.getLogger(__name__)


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
    `put_away` moves it off there, and the next use brings it back. `digest` stands for the content of its weights
    and configuration, `texts` for that of each file that makes tokens of prompts or ends a completion.
    """

    model: Any
    tokenizer: Any
    source: str
    precision: str
    device: str
    digest: str
    texts: Mapping[str, str] = field(default_factory=dict)
    lock: Occupancy = field(default_factory=Occupancy, repr=False)


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
