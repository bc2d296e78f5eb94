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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_GGML_ERROR, _GGML_CONTINUED = 4, 5  # as in ggml.h; the Python package has older numbers
_F32 = 0  # ggml's number of the type
_ERRORS_SHOWN = 3
_TINY_BYTES = (
    64 * 2**20
)  # measured at 2 to 7 MB: one thread is 2.5 times as fast as two on a busy machine


class WorkerError(Exception):
    """Something asked for is not possible; the message is for the user."""


class Log:
    """llama.cpp's error lines: the only place where it says why a call failed."""

    def __init__(self) -> None:
        import llama_cpp

        self.errors: list[str] = []
        self._last = 0
        self._callback = llama_cpp.llama_log_callback(self._receive)  # kept: C holds a bare pointer
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _receive(self, level: int, text: bytes, _data: object) -> None:
        self._last = self._last if level == _GGML_CONTINUED else level
        line = text.decode("utf-8", errors="replace").strip()
        if self._last == _GGML_ERROR and line.strip("."):
            self.errors.append(line)

    def reason(self, otherwise: str) -> str:
        """Return the last error lines on one line."""
        return "; ".join(self.errors[-_ERRORS_SHOWN:]) or otherwise


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


def logits(request: dict, log: Log) -> Iterator[dict]:
    """Compare material for one GGUF: its tokens for texts, its chat texts, its logits for token ids.

    `output` receives the logits of all positions of all `sequences`, one after the other, as float32
    (positions, vocabulary). The key-value cache is float32 and flash attention off, so that nothing
    but the weights differs from the model that was exported.
    """
    vocabulary = _open(request["gguf"], log, vocab_only=True)
    yield {
        "tokens": [_tokenize(vocabulary, text, request["add_bos"]) for text in request["texts"]],
        "rendered": [_render(vocabulary, messages) for messages in request["conversations"]],
    }
    vocabulary.close()
    sequences = request["sequences"]
    longest = max(map(len, sequences))
    llm = _open(
        request["gguf"],
        log,
        n_ctx=longest,
        logits_all=True,
        type_k=_F32,
        type_v=_F32,
        flash_attn=False,
    )
    shape = (sum(map(len, sequences)), llm.n_vocab())
    output = np.lib.format.open_memmap(request["output"], "w+", dtype=np.float32, shape=shape)
    row = 0
    for sequence in sequences:
        llm.reset()
        llm.eval(sequence)
        output[row : row + len(sequence)] = llm.scores[: len(sequence)]
        row += len(sequence)
        yield {"positions": row}
    output.flush()


def generate(request: dict, log: Log) -> Iterator[dict]:
    """Complete each conversation with the file's own chat template; one line for each.

    A file without a template gets the contents as plain text. Sampling is by temperature alone, as in
    training; completion i depends on the seed and i, not on the other conversations.
    """
    vocabulary = _open(request["gguf"], log, vocab_only=True)
    prompts, limit = [], _trained_context(vocabulary)
    for messages in request["conversations"]:
        text = _render(vocabulary, messages)
        plain = "\n\n".join(message["content"] for message in messages)
        ids = _tokenize(vocabulary, plain if text is None else text, add_bos=text is None)
        if limit and len(ids) >= limit:
            raise WorkerError(
                f"the prompt {_short(messages[-1]['content'])} has {len(ids)} tokens, the model's context {limit}; "
                "shorten the prompt"
            )
        prompts.append(ids)
    vocabulary.close()
    context = max(map(len, prompts)) + request["max_new_tokens"]
    context = min(context, limit or context)
    llm, note = _open_on_gpu(request["gguf"], log, context)
    for index, ids in enumerate(prompts):
        random = np.random.default_rng([request["seed"], index])
        room = min(request["max_new_tokens"], context - len(ids))
        yield _complete(llm, ids, room, request["temperature"], random) | {"note": note}


def _complete(
    llm: Any, prompt: Sequence[int], limit: int, temperature: float, random: np.random.Generator
) -> dict:
    """Sample until an end token or `limit` tokens; the end token counts but is not part of the text."""
    import llama_cpp

    is_end = _end_test(llm)
    llm.reset()
    llm.eval(prompt)
    shown: list[int] = []
    for count in range(1, limit + 1):
        scores = llama_cpp.llama_get_logits_ith(llm.ctx, -1)
        token = _choose(np.ctypeslib.as_array(scores, shape=(llm.n_vocab(),)), temperature, random)
        if is_end(token):
            return {"text": _detokenize(llm, shown), "tokens": count, "truncated": False}
        shown.append(token)
        if count < limit:
            llm.eval([token])
    return {"text": _detokenize(llm, shown), "tokens": limit, "truncated": True}


def _choose(scores: np.ndarray, temperature: float, random: np.random.Generator) -> int:
    if not np.isfinite(scores).all():
        raise WorkerError("the model computes numbers that are not finite; export it again")
    if temperature == 0:
        return int(scores.argmax())
    # Gumbel's trick: the argmax of logits plus such noise is a draw from their softmax.
    return int((scores / temperature + random.gumbel(size=len(scores))).argmax())


def _end_test(llm: Any) -> Callable[[int], bool]:
    import llama_cpp

    vocabulary = _table(llm)
    return lambda token: bool(llama_cpp.llama_vocab_is_eog(vocabulary, token))


def _open(path: str, log: Log, **options: Any) -> Any:
    import llama_cpp

    if not Path(path).is_file():
        raise WorkerError(f"there is no file {path!r}")
    threads = _threads(Path(path).stat().st_size)
    options |= {"n_threads": threads, "n_threads_batch": threads}
    try:
        return llama_cpp.Llama(path, verbose=False, **options)
    except ValueError as error:  # the reason is in the log only
        raise WorkerError(
            f"{Path(path).name} cannot be loaded: {log.reason(str(error))}"
        ) from error


def _threads(size: int) -> int:
    """Return one thread for a tiny model, which waiting for others would slow down; else the physical cores."""
    cores = os.cpu_count() or 1
    return 1 if size < _TINY_BYTES else max(min(cores, 4), cores // 2)


def _open_on_gpu(path: str, log: Log, context: int) -> tuple[Any, str]:
    """Load for answering: on the GPU where llama.cpp was built for one, else or if it is full on the CPU."""
    import llama_cpp

    if not llama_cpp.llama_supports_gpu_offload():
        return _open(path, log, n_ctx=context), ""
    try:
        return _open(path, log, n_ctx=context, n_gpu_layers=-1), ""
    except WorkerError as error:
        return _open(
            path, log, n_ctx=context
        ), f"answered on the CPU, because the GPU failed: {error}"


def _trained_context(vocabulary: Any) -> int:
    key = f"{vocabulary.metadata.get('general.architecture')}.context_length"
    return int(vocabulary.metadata.get(key, 0))


def _tokenize(vocabulary: Any, text: str, add_bos: bool) -> list[int]:
    return list(vocabulary.tokenize(text.encode("utf-8"), add_bos=add_bos, special=True))


def _detokenize(llm: Any, tokens: Sequence[int]) -> str:
    """Return the text with its special tokens, without padding, as a policy's answers have it.

    llama_cpp's own method would leave special tokens out, and cuts pieces of more than 32 bytes.
    """
    import llama_cpp

    padding = llama_cpp.llama_vocab_pad(_table(llm))
    pieces = [_piece(llm, token) for token in tokens if token != padding]
    return b"".join(pieces).decode("utf-8", errors="replace").strip()


def _piece(llm: Any, token: int) -> bytes:
    import llama_cpp

    size = 64
    while True:
        buffer = ctypes.create_string_buffer(size)
        count = llama_cpp.llama_token_to_piece(_table(llm), token, buffer, size, 0, True)
        if count >= 0:
            return buffer.raw[:count]
        size = -count  # it says so when the buffer is too small


def _render(vocabulary: Any, messages: Sequence[dict]) -> str | None:
    """Return the chat text by the template in the file, or None where it has none."""
    template = vocabulary.metadata.get("tokenizer.chat_template")
    if not template:
        return None
    import jinja2
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    bos, eos = (
        _token_text(vocabulary, i) for i in (vocabulary.token_bos(), vocabulary.token_eos())
    )
    try:
        formatter = Jinja2ChatFormatter(template=template, eos_token=eos, bos_token=bos)
        conversation: Any = list(messages)
        return formatter(messages=conversation).prompt
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        raise WorkerError(
            f"the file's chat template refuses the prompt {_short(messages[-1]['content'])} ({error})"
        ) from error


def _token_text(vocabulary: Any, token: int) -> str:
    import llama_cpp

    if token < 0:
        return ""
    text = llama_cpp.llama_vocab_get_text(_table(vocabulary), token)
    return text.decode("utf-8", errors="replace")


def _table(llm: Any) -> Any:
    """Return the file's vocabulary as llama.cpp's own functions take it."""
    import llama_cpp

    return llama_cpp.llama_model_get_vocab(llm.model)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


COMMANDS = {"quantize": quantize, "logits": logits, "generate": generate}


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
