"""A GGUF file, opened by llama.cpp: its tokens, its chat template, and llama.cpp's own words on what failed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

_GGML_ERROR, _GGML_CONTINUED = 4, 5  # as in ggml.h; the Python package has older numbers
_ERRORS_SHOWN = 3
# Measured at 2 to 7 MB: one thread is 2.5 times as fast as two on a busy machine.
_TINY_BYTES = 64 * 2**20
# Honest templates take a millisecond or two, and kilobytes.
_RENDER_BYTES, _RENDER_SECONDS = 256 * 2**20, 2

Limited = Callable[[int, int], AbstractContextManager[None]]


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


def open_file(path: str, log: Log, **options: Any) -> Any:
    """Open a file by llama_cpp, with its own options.

    Raises:
        WorkerError: It is absent, or llama.cpp cannot load it.
    """
    import llama_cpp

    if not Path(path).is_file():
        raise WorkerError(f"there is no file {path!r}")
    threads = _threads(Path(path).stat().st_size)
    options |= {"n_threads": threads, "n_threads_batch": threads}
    try:
        with _no_templates():
            return llama_cpp.Llama(path, verbose=False, **options)
    except ValueError as error:  # the reason is in the log only
        raise WorkerError(
            f"{Path(path).name} cannot be loaded: {log.reason(str(error))}"
        ) from error


@contextmanager
def _no_templates() -> Iterator[None]:
    """Keep the package from compiling the file's chat templates, which may take any memory: `render` does it."""
    from llama_cpp import llama_chat_format

    class Nothing:
        def __init__(self, **_: object) -> None: ...

        def to_chat_handler(self) -> None: ...

    module: Any = llama_chat_format
    formatter, module.Jinja2ChatFormatter = module.Jinja2ChatFormatter, Nothing
    try:
        yield
    finally:
        module.Jinja2ChatFormatter = formatter


def _threads(size: int) -> int:
    """Return one thread for a tiny model, which waiting for others would slow down; else the physical cores."""
    cores = os.cpu_count() or 1
    return 1 if size < _TINY_BYTES else max(min(cores, 4), cores // 2)


def open_on_gpu(path: str, log: Log, context: int) -> tuple[Any, str]:
    """Load for answering: on the GPU where llama.cpp was built for one, else or if it is full on the CPU."""
    import llama_cpp

    if not llama_cpp.llama_supports_gpu_offload():
        return open_file(path, log, n_ctx=context), ""
    try:
        return open_file(path, log, n_ctx=context, n_gpu_layers=-1), ""
    except WorkerError as error:
        return open_file(
            path, log, n_ctx=context
        ), f"answered on the CPU, because the GPU failed: {error}"


def trained_context(vocabulary: Any) -> int:
    """Return the number of tokens that the model was trained with, or 0 where the file does not say."""
    key = f"{vocabulary.metadata.get('general.architecture')}.context_length"
    return int(vocabulary.metadata.get(key, 0))


def tokenize(vocabulary: Any, text: str, add_bos: bool) -> list[int]:
    """Return token ids of a text, whose special tokens are read as such."""
    return list(vocabulary.tokenize(text.encode("utf-8"), add_bos=add_bos, special=True))


def detokenize(llm: Any, tokens: Sequence[int]) -> str:
    """Return the text with its special tokens, without padding, as a policy's answers have it.

    llama_cpp's own method would leave special tokens out, and cuts pieces of more than 32 bytes.
    """
    import llama_cpp

    padding = llama_cpp.llama_vocab_pad(table(llm))
    pieces = [_piece(llm, token) for token in tokens if token != padding]
    return b"".join(pieces).decode("utf-8", errors="replace").strip()


def _piece(llm: Any, token: int) -> bytes:
    import llama_cpp

    size = 64
    while True:
        buffer = ctypes.create_string_buffer(size)
        count = llama_cpp.llama_token_to_piece(table(llm), token, buffer, size, 0, True)
        if count >= 0:
            return buffer.raw[:count]
        size = -count  # it says so when the buffer is too small


def render(vocabulary: Any, messages: Sequence[dict], limited: Limited) -> str | None:
    """Return the chat text by the template in the file, or None where it has none.

    Raises:
        WorkerError: The template refuses the messages, or takes too much memory.
    """
    template = vocabulary.metadata.get("tokenizer.chat_template")
    if not template:
        return None
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    bos, eos = (
        _token_text(vocabulary, i) for i in (vocabulary.token_bos(), vocabulary.token_eos())
    )
    try:
        with limited(_RENDER_BYTES, _RENDER_SECONDS):
            formatter = Jinja2ChatFormatter(template=template, eos_token=eos, bos_token=bos)
            conversation: Any = list(messages)
            return formatter(messages=conversation).prompt
    except MemoryError:
        raise WorkerError("the file's chat template takes too much memory") from None
    except Exception as error:  # noqa: BLE001  a template raises what it wants
        # Its traceback, which holds the template's lines, may take minutes to print.
        reason = str(error)[:300]
        raise WorkerError(
            f"the file's chat template refuses the prompt {short(messages[-1]['content'])} ({reason})"
        ) from None


def _token_text(vocabulary: Any, token: int) -> str:
    import llama_cpp

    if token < 0:
        return ""
    text = llama_cpp.llama_vocab_get_text(table(vocabulary), token)
    return text.decode("utf-8", errors="replace")


def table(llm: Any) -> Any:
    """Return the file's vocabulary as llama.cpp's own functions take it."""
    import llama_cpp

    return llama_cpp.llama_model_get_vocab(llm.model)


def short(text: str) -> str:
    """Return the beginning of a text, in quotes, for a message."""
    return repr(text if len(text) <= 60 else f"{text[:59]}…")
