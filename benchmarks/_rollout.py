"""Tokens per second of sampling: our engine, `generate`, transformers' continuous batching and llama.cpp.

    python -m benchmarks._rollout [--quick] [--cpu-time]

One model (the starter, with a random LoRA of rank 16 on all linear layers), the same prompts, all
completions of full length. The engines take turns, round by round, and the ratio is the median over the
rounds, so that a machine which others use too disturbs all alike. Continuous batching is called as a trainer
would call it, anew for each batch; called from here it sizes its cache by the machine's memory, which takes
seconds and most of that memory, so `bench speed` tells it what it needs. `--cpu-time` measures the time
of one thread instead, for machines that are too busy for a clock.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCHES = (1, 8, 32, 64)
NEW_TOKENS, GROUP, RANK, ROUNDS = 48, 8, 16, 5

logger = logging.getLogger(__name__)

Run = Callable[[], int]  # samples once, and returns the number of tokens


def measure(
    batches: tuple[int, ...] = BATCHES,
    new_tokens: int = NEW_TOKENS,
    rounds: int = ROUNDS,
    *,
    cpu_time: bool = False,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows `{"engine", "model", "batch", "new_tokens", "tokens_per_s", "ratio_to_generate"}`, and what failed."""
    import torch

    from gdpo.policies.adapter import read_adapter
    from gdpo.policies.loading import load_policy
    from gdpo.policies.policy import Policy, trainable
    from gdpo.starter import MODEL_DIR

    if cpu_time:
        torch.set_num_threads(1)
    base = load_policy(MODEL_DIR, precision="fp32", device="cpu")
    # Nothing ends early: no completion of the starter holds the padding token.
    base.base.tokenizer.eos_token = base.base.tokenizer.pad_token
    base.base.model.generation_config.eos_token_id = None
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    with (
        trainable(base, rank=RANK, alpha=2 * RANK, seed=0) as model,
        tempfile.TemporaryDirectory() as folder,
    ):
        torch.manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.01)
        tuned = Policy(base.base, read_adapter(model))
        gguf = _attempt(missing, "llama.cpp", lambda: _export(tuned, Path(folder)))
        for batch in batches:
            job = Job(model, base.base.tokenizer, batch, new_tokens, 1 if cpu_time else 0, gguf)
            rows += _race(job, rounds, missing, cpu_time)
    return rows, missing


class Job:
    """What each engine is given: a model with its adapter, and a batch of prompts in groups."""

    def __init__(
        self, model: Any, tokenizer: Any, batch: int, new_tokens: int, threads: int, gguf: Any
    ) -> None:
        from gdpo.policies.chat import encode_prompt
        from gdpo.prompts import load_prompts
        from gdpo.starter import TRAIN_PROMPTS

        self.model, self.tokenizer, self.batch, self.new_tokens = (
            model,
            tokenizer,
            batch,
            new_tokens,
        )
        self.threads, self.gguf = threads, gguf
        self.group = min(GROUP, batch)
        self.prompts = load_prompts(TRAIN_PROMPTS)[: batch // self.group]
        self.ids = [encode_prompt(tokenizer, prompt) for prompt in self.prompts]

    def engines(self) -> dict[str, Callable[[], Run]]:
        """What prepares each engine and returns what runs it, by name."""
        found = {
            "generate": lambda: self._generate,
            "gdpo": lambda: self._gdpo,
            "continuous batching": lambda: self._continuous,
        }
        return found | ({"llama.cpp": lambda: Llama(self).run} if self.gguf else {})

    def _gdpo(self) -> int:
        from gdpo.rollouts import sample

        options = {"group_size": self.group, "max_new_tokens": self.new_tokens, "seed": 0}
        return int(sample(self.model, self.tokenizer, self.prompts, **options).lengths.sum())

    def _generate(self) -> int:
        import torch

        width = max(map(len, self.ids))
        rows = [row for row in self.ids for _ in range(self.group)]
        ids = torch.tensor([[self.tokenizer.pad_token_id] * (width - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
        with torch.no_grad():
            found = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=self.new_tokens,
                do_sample=True,
                top_k=0,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        return found[:, width:].numel()

    def _continuous(self) -> int:
        import torch
        from transformers import GenerationConfig

        config = GenerationConfig(
            max_new_tokens=self.new_tokens, do_sample=True, top_k=0, eos_token_id=-1, pad_token_id=0
        )
        rows = [row for row in self.ids for _ in range(self.group)]
        with torch.no_grad():
            found = self.model.get_base_model().generate_batch(
                rows, generation_config=config, progress_bar=False
            )
        count = sum(len(output.generated_tokens) for output in found.values())
        if count < self.batch:
            raise RuntimeError(f"it produced {count} tokens for {self.batch} prompts")
        return count


class Llama:
    """llama.cpp's low-level interface: a sequence for each completion, prompts decoded once a group."""

    def __init__(self, job: Job) -> None:
        import llama_cpp

        self._lib, self._job = llama_cpp, job
        self._quiet = llama_cpp.llama_log_callback(lambda *_message: None)  # kept alive here
        llama_cpp.llama_log_set(self._quiet, None)
        self._length = max(map(len, job.ids)) + job.new_tokens
        options = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(job.gguf).encode(), options)
        settings = llama_cpp.llama_context_default_params()
        settings.n_seq_max = job.batch
        settings.n_ctx = job.batch * (self._length + 256)
        settings.n_batch = max(512, job.batch)
        if job.threads:
            settings.n_threads = settings.n_threads_batch = job.threads
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        if not self._context:
            raise RuntimeError("llama.cpp made no context")
        self._vocabulary = job.model.get_input_embeddings().weight.shape[0]
        self._batch = llama_cpp.llama_batch_init(settings.n_batch, 0, 1)

    def run(self) -> int:
        """Sample once."""
        import torch

        from gdpo.rollouts.choose_token import pick

        lib, job = self._lib, self._job
        memory = lib.llama_get_memory(self._context)
        lib.llama_memory_clear(memory, True)
        firsts = []
        for index, ids in enumerate(job.ids):
            first = index * job.group
            firsts.append(
                self._decode([(token, at, first) for at, token in enumerate(ids)], [len(ids) - 1])
            )
            for copy in range(first + 1, first + job.group):
                lib.llama_memory_seq_cp(memory, first, copy, -1, -1)
        logits = torch.cat(firsts).repeat_interleave(job.group, 0)
        uniforms = torch.rand(job.new_tokens, job.batch)
        lengths = [len(ids) for ids in job.ids for _ in range(job.group)]
        for t in range(job.new_tokens):
            tokens = pick(logits, 1.0, uniforms[t]).tokens.tolist()
            if t < job.new_tokens - 1:
                entries = [(token, lengths[row] + t, row) for row, token in enumerate(tokens)]
                logits = self._decode(entries, range(job.batch))
        return job.batch * job.new_tokens

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


def _race(job: Job, rounds: int, missing: dict[str, str], cpu_time: bool) -> list[dict[str, Any]]:
    clock = time.process_time if cpu_time else time.perf_counter
    runs: dict[str, Run] = {}
    for name, prepare in job.engines().items():
        run = _attempt(missing, name, prepare)
        if run and _attempt(missing, name, run):  # the first run warms up
            runs[name] = run
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = clock()
            count = run()
            speeds[name].append(count / (clock() - begin))
    return [
        {
            "engine": name,
            "model": "starter",
            "batch": job.batch,
            "new_tokens": job.new_tokens,
            "tokens_per_s": round(statistics.median(found), 1),
            "ratio_to_generate": round(
                statistics.median(a / b for a, b in zip(found, speeds["generate"], strict=True)), 3
            ),
        }
        for name, found in speeds.items()
    ]


def _attempt(missing: dict[str, str], name: str, step: Callable[[], Any]) -> Any:
    """What `step` returns; an engine that is absent or fails is listed as not measured."""
    if name in missing:
        return None
    try:
        return step()
    except Exception as error:  # noqa: BLE001  of other people's engines, of any class
        missing[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        logger.warning("%s is not measured: %s", name, missing[name])
        return None


def _export(policy: Any, folder: Path) -> Path:
    from gdpo.export.pipeline import export_gguf

    return export_gguf(policy, folder, "starter", types=("F32",))[0].path


def main(arguments: list[str]) -> int:
    """Measure, and print the rows as JSON."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer batches and rounds")
    parser.add_argument("--cpu-time", action="store_true", help="processor time of one thread")
    options = parser.parse_args(arguments)
    batches, rounds = ((8, 32), 2) if options.quick else (BATCHES, ROUNDS)
    rows, missing = measure(batches, rounds=rounds, cpu_time=options.cpu_time)
    for row in rows:
        logger.info("%s", json.dumps(row))
    logger.info("%s", json.dumps({"not_measured": missing}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
