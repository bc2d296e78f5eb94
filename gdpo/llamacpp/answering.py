"""One answer by llama.cpp, token by token, within the worker's process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .gguf_file import WorkerError, detokenize, table


def complete(
    llm: Any, prompt: Sequence[int], limit: int, temperature: float, random: np.random.Generator
) -> dict:
    """Sample until an end token or `limit` tokens; the end token counts but is not part of the text."""
    import llama_cpp

    is_end = end_test(llm)
    llm.reset()
    llm.eval(prompt)
    shown: list[int] = []
    for count in range(1, limit + 1):
        scores = llama_cpp.llama_get_logits_ith(llm.ctx, -1)
        token = _choose(np.ctypeslib.as_array(scores, shape=(llm.n_vocab(),)), temperature, random)
        if is_end(token):
            return {"text": detokenize(llm, shown), "tokens": count, "truncated": False}
        shown.append(token)
        if count < limit:
            llm.eval([token])
    return {"text": detokenize(llm, shown), "tokens": limit, "truncated": True}


def _choose(scores: np.ndarray, temperature: float, random: np.random.Generator) -> int:
    if not np.isfinite(scores).all():
        raise WorkerError("the model computes numbers that are not finite; export it again")
    if temperature == 0:
        return int(scores.argmax())
    # Gumbel's trick: the argmax of logits plus such noise is a draw from their softmax.
    return int((scores / temperature + random.gumbel(size=len(scores))).argmax())


def end_test(llm: Any) -> Callable[[int], bool]:
    """Return what tells whether a token ends an answer."""
    import llama_cpp

    vocabulary = table(llm)
    return lambda token: bool(llama_cpp.llama_vocab_is_eog(vocabulary, token))
