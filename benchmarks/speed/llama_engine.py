"""Samples with llama.cpp's low-level interface: a sequence for each completion, prompts decoded once a group."""

from __future__ import annotations

import ctypes
from typing import Any

from benchmarks.speed.engines import Job


class Llama:
    """llama.cpp with the model and the cache that a job needs."""

    def __init__(self, job: Job) -> None:
        """Load the job's GGUF file.

        Raises:
            RuntimeError: llama.cpp could make no context.
        """
        import llama_cpp

        self._lib, self._job = llama_cpp, job
        self._quiet = llama_cpp.llama_log_callback(lambda *_message: None)  # kept alive here
        llama_cpp.llama_log_set(self._quiet, None)
        options = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(job.gguf).encode(), options)
        settings = llama_cpp.llama_context_default_params()
        settings.n_seq_max = job.batch
        settings.n_ctx = job.batch * (max(map(len, job.ids)) + job.new_tokens + 256)
        settings.n_batch = max(512, job.batch)
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            raise RuntimeError("llama.cpp made no context")
        self._vocabulary = job.model.get_input_embeddings().weight.shape[0]
        self._batch = llama_cpp.llama_batch_init(settings.n_batch, 0, 1)

    def run(self) -> int:
        """Sample once, and return the number of tokens."""
        import torch

        from gdpo.rollouts.choose_token import pick

        job = self._job
        logits = self._prompts()
        uniforms = torch.rand(job.new_tokens, job.batch)
        lengths = [len(ids) for ids in job.rows]
        for t in range(job.new_tokens):
            tokens = pick(logits, 1.0, uniforms[t]).tokens.tolist()
            if t < job.new_tokens - 1:
                entries = [(token, lengths[row] + t, row) for row, token in enumerate(tokens)]
                logits = self._decode(entries, range(job.batch))
        return job.batch * job.new_tokens

    def _prompts(self) -> Any:
        """Logits `(batch, V)` after the prompts; each is decoded once and copied to its group."""
        import torch

        lib, job = self._lib, self._job
        memory = lib.llama_get_memory(self._context)
        lib.llama_memory_clear(memory, True)
        firsts = []
        for index, ids in enumerate(job.ids):
            first = index * job.group
            entries = [(token, at, first) for at, token in enumerate(ids)]
            firsts.append(self._decode(entries, [len(ids) - 1]))
            for copy in range(first + 1, first + job.group):
                lib.llama_memory_seq_cp(memory, first, copy, -1, -1)
        return torch.cat(firsts).repeat_interleave(job.group, 0)

    def _decode(self, entries: list[tuple[int, int, int]], wanted: Any) -> Any:
        """Logits `(len(wanted), V)` after decoding (token, position, sequence) entries."""
        import numpy as np
        import torch

        batch = self._batch
        batch.n_tokens = len(entries)
        for index, (token, position, sequence) in enumerate(entries):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = 0
        for index in wanted:
            batch.logits[index] = 1
        if self._lib.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        pointer = self._lib.llama_get_logits(self._context)
        shape = (len(wanted), self._vocabulary)
        floats = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float))
        return torch.from_numpy(np.ctypeslib.as_array(floats, shape).copy())
