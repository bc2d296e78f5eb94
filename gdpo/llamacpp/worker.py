"""All work with llama.cpp's runtime, as a program: `worker.py REQUEST.json RESPONSE.jsonl`.

It runs in a process of its own, because llama.cpp aborts on some errors, and knows llama_cpp and numpy only.
The request names a command and its arguments; each result is one JSON line of the response. A failure is a
last line {"error": ...} with what llama.cpp logged as the reason.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .answering import complete, end_test
from .gguf_file import (
    Limited,
    Log,
    WorkerError,
    open_file,
    open_on_gpu,
    render,
    short,
    tokenize,
    trained_context,
)

_F32 = 0  # ggml's number of the type
# `workers/start.py` has put it among these names.
_limited: Limited = globals()["limited"]


def quantize(request: dict, log: Log) -> Iterator[dict]:
    """Write `target` from `source` with the tensor types of llama.cpp's file type `ftype`."""
    import llama_cpp

    source, target = Path(request["source"]), Path(request["target"])
    if target.exists():  # the same file would be destroyed, and the process die of a bus error
        raise WorkerError(f"{target.name} exists already")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = request["ftype"]
    params.nthread = os.cpu_count() or 1
    pointer: Any = ctypes.byref(params)
    code = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), pointer)
    if code != 0:
        target.unlink(missing_ok=True)  # a full disk and NaN weights leave a part of it
        raise WorkerError(log.reason(f"llama_model_quantize returned {code}"))
    yield {"bytes": target.stat().st_size}


def tokens(request: dict, log: Log) -> Iterator[dict]:
    """Read texts by the vocabulary of a file, which needs no weights."""
    vocabulary = open_file(request["gguf"], log, vocab_only=True)
    yield {"tokens": [tokenize(vocabulary, text, request["add_bos"]) for text in request["texts"]]}
    vocabulary.close()


def logits(request: dict, log: Log) -> Iterator[dict]:
    """Compare material for one GGUF: its tokens for texts, its chat texts, its end tokens, its logits for token ids.

    `output` receives the logits of the `last` positions of each of `sequences`, or of all, one after the other, as
    float32 (positions, vocabulary). The key-value cache is float32 and flash attention off, so that nothing
    but the weights differs from the model that was exported.
    """
    vocabulary = open_file(request["gguf"], log, vocab_only=True)
    yield {
        "tokens": [tokenize(vocabulary, text, request["add_bos"]) for text in request["texts"]],
        "rendered": [
            render(vocabulary, messages, _limited) for messages in request["conversations"]
        ],
        "ends": list(filter(end_test(vocabulary), request.get("said", ()))),
    }
    vocabulary.close()
    sequences = request["sequences"]
    last = request.get("last") or [len(sequence) for sequence in sequences]
    longest = max(map(len, sequences))
    llm = open_file(
        request["gguf"],
        log,
        n_ctx=longest,
        logits_all=True,
        type_k=_F32,
        type_v=_F32,
        flash_attn=False,
    )
    shape = (sum(last), llm.n_vocab())
    output = np.lib.format.open_memmap(request["output"], "w+", dtype=np.float32, shape=shape)
    row = 0
    for sequence, count in zip(sequences, last, strict=True):
        output[row : row + count] = _last_logits(llm, sequence, count)
        row += count
        yield {"positions": row}
    output.flush()


def _last_logits(llm: Any, sequence: Sequence[int], count: int) -> np.ndarray:
    """Return the logits of the last positions; those before take no memory, which with a large vocabulary is much."""
    start = len(sequence) - count
    llm.reset()
    for part, wanted in ((sequence[:start], False), (sequence[start:], True)):
        llm._logits_all = wanted  # its memory for them was reserved when the file was opened, and is used when written
        llm.eval(part)
    return llm.scores[start : len(sequence)]


def generate(request: dict, log: Log) -> Iterator[dict]:
    """Complete each conversation with the file's own chat template; one line for each.

    A file without a template gets the contents as plain text. Sampling is by temperature alone, as in
    training; completion i depends on the seed and i, not on the other conversations.
    """
    vocabulary = open_file(request["gguf"], log, vocab_only=True)
    prompts, limit = [], trained_context(vocabulary)
    for messages in request["conversations"]:
        text = render(vocabulary, messages, _limited)
        plain = "\n\n".join(message["content"] for message in messages)
        ids = tokenize(vocabulary, plain if text is None else text, add_bos=text is None)
        if limit and len(ids) >= limit:
            raise WorkerError(
                f"the prompt {short(messages[-1]['content'])} has {len(ids)} tokens, the model's context {limit}; "
                "shorten the prompt"
            )
        prompts.append(ids)
    vocabulary.close()
    context = max(map(len, prompts)) + request["max_new_tokens"]
    context = min(context, limit or context)
    llm, note = open_on_gpu(request["gguf"], log, context)
    for index, ids in enumerate(prompts):
        random = np.random.default_rng([request["seed"], index])
        room = min(request["max_new_tokens"], context - len(ids))
        yield complete(llm, ids, room, request["temperature"], random) | {"note": note}


COMMANDS = {"quantize": quantize, "tokens": tokens, "logits": logits, "generate": generate}


def main(arguments: Sequence[str]) -> int:
    """Carry out the request; the exit code is 0 only when all of it is done."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    with Path(arguments[1]).open("w", encoding="utf-8", newline="\n") as response:

        def write(line: dict) -> None:
            response.write(json.dumps(line) + "\n")
            response.flush()

        try:
            log = Log()
            for line in COMMANDS[request["command"]](request, log):
                write(line)
        except (WorkerError, OSError, RuntimeError, ValueError, ImportError) as error:
            write({"error": str(error) if isinstance(error, WorkerError) else _describe(error)})
            return 1
    return 0


def _describe(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
