r"""The gradients of all rewards from one backward pass, without keeping them.

With A_ki the advantage of completion i under reward k and l_i its log-likelihood, the gradient of reward k is

    g_k = (1/N) \sum_i A_ki s_i,    s_i = grad l_i.

One backward pass of \sum_i l_i meets, at each LoRA matrix, the input x_i and the output gradient d_i of every
completion; s_i = d_i^T x_i there is a batched product, which is contracted with the advantages at once. The
cost hardly depends on K, and |s_i|^2, which the Gramian's correction needs, comes free. This needs a loss that
is linear in the advantage: one optimiser step for each batch of rollouts, no clipping.

Memory hardly depends on K either. The step itself needs one combined gradient; of the g_k only the inner
products are wanted, and these are kept by a sketch: each g_k times fixed random signs, summed over the rank of
the LoRA matrix. For signs c that are independent and of mean 0, E <Sg_k, Sg_l> = g_k . g_l, as in AMS sketches
(Alon, Matias, Szegedy, 1996); the sketch is r times smaller than the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import TrainingError, shorten
from .lora_linears import lora_linears


class RewardGradients:
    """The combined gradient of a model's LoRA matrices and a sketch of each reward's, filled by `backward`.

    Attributes:
        parameters: The LoRA matrices, in the model's order.
        combined: Combined gradient (1/N) sum_i c_i s_i of each of them, of its shape.
        sketches: Gradients of the K rewards for each of them, signed and summed over the rank, `(K, long side)`.
        squared_norms: |s_i|^2 of each completion, `(N,)`.
        coefficients: c and the rewards' advantages, each over N, `(1 + K, N)`.
        scores: s_i of all completions for each of them, `(N, out, in)`, in bf16 where the model is of 16 bits; empty unless kept.

    All sums are kept in float32, or in float64 where the matrices are of it.

    Where prompts are shared (`shared_prompts.py`), sketches and norms leave out what passes through the shared rows.
    """

    def __init__(
        self,
        model: Any,
        combination: Tensor,
        advantages: Tensor,
        seed: int,
        keep: torch.device | None = None,
    ) -> None:
        """Prepare to fill the buffers.

        Args:
            model: Model with the adapter that is being trained.
            combination: c, the advantages that the step follows, `(N,)`.
            advantages: A, `(K, N)`.
            seed: Seed of the sketches' signs; another one each step averages their error out.
            keep: Device on which each completion's own score is kept; None: none is.
        """
        self._modules = lora_linears(model)
        weight = self._modules[0].weight
        kind = {"device": weight.device, "dtype": torch.promote_types(weight.dtype, torch.float32)}
        rows = torch.cat([combination[None], advantages]) / len(combination)
        self.coefficients = rows.to(**kind)  # (1 + K, N)
        # Rows of the completions that are computed; None where the computed rows are no completions.
        self._rows: Tensor | None = torch.empty(0, dtype=torch.long)
        self.parameters = [module.weight for module in self._modules]
        self.combined = [torch.zeros(w.shape, **kind) for w in self.parameters]
        self.sketches = [
            torch.zeros(len(advantages), max(w.shape), **kind) for w in self.parameters
        ]
        self.squared_norms = torch.zeros(len(combination), **kind)
        self.scores = [] if keep is None else _room(model, self.parameters, len(combination), keep)
        self._silent = set(range(len(self._modules)))  # matrices that have not reported yet
        self._signs = _signs(max(w.numel() for w in self.parameters), seed).to(**kind)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Let the LoRA matrices report to the buffers while the forward passes run."""
        for index, module in enumerate(self._modules):
            module.forward = self._reporting(index)
        try:
            yield
        finally:
            for module in self._modules:
                del module.forward  # the class's own method shows again

    def backward(self, likelihoods: Tensor, rows: Tensor) -> None:
        """Add the completions `rows` (n,) of log-likelihood `likelihoods` (n,) to the buffers."""
        self._rows = rows
        likelihoods.sum().backward()

    def backward_shared(self, tensors: Sequence[Tensor], cotangents: Sequence[Tensor]) -> None:
        """Add to the combined gradient what reaches it through `tensors`, which several completions share.

        Args:
            tensors: Outputs of passes whose rows are no completions.
            cotangents: Gradients of sum_i c_i l_i with respect to each; they contain the coefficients already.
        """
        self._rows = None
        torch.autograd.backward(tensors, cotangents)

    def inner_products(self) -> Tensor:
        """Return all inner products of the rewards' gradients, estimated from the sketches, `(K, K)`, float64."""
        return torch.stack([(s @ s.T).double() for s in self.sketches]).sum(0)

    def check_reported(self, model: Any) -> None:
        """Refuse to go on where a matrix has not reported in any pass so far: its gradient would be taken for 0.

        Args:
            model: The same model, for names.

        Raises:
            TrainingError: The message names the matrix.
        """
        if self._silent:
            names = {id(module): name for name, module in model.named_modules()}
            name = names[id(self._modules[min(self._silent)])]
            raise TrainingError(
                f"{len(self._silent)} of the adapter's {len(self._modules)} matrices took no part in the pass, so they "
                f"would never be trained: {shorten(name, 160)}; train a fresh adapter, or, if it is one, another model "
                f"than {model.config.model_type!r}."
            )

    def _reporting(self, index: int) -> Any:
        module, buffer, sketch = self._modules[index], self.combined[index], self.sketches[index]

        def report(inputs: Tensor, gradients: Tensor) -> None:
            self._silent.discard(index)
            if self._rows is None:
                flat = gradients.flatten(0, -2).to(buffer).T @ inputs.flatten(0, -2).to(buffer)
                buffer.add_(flat, alpha=1 / len(self.squared_norms))
                return
            if inputs.dim() < 3 or len(inputs) != len(self._rows):
                raise TrainingError(
                    f"A LoRA layer received input of shape {tuple(inputs.shape)} for {len(self._rows)} completions: "
                    "this architecture runs them together (as routed experts do), so the rewards' gradients "
                    "cannot be told apart; train another model."
                )
            inputs, gradients = inputs.flatten(1, -2), gradients.flatten(1, -2)
            # (n, out, T) @ (n, T, in): the gradient of each completion
            each = gradients.to(buffer).transpose(1, 2) @ inputs.to(buffer)
            self.squared_norms.index_add_(0, self._rows, each.flatten(1).square().sum(1))
            if self.scores:  # added, since a matrix may be used more than once in a pass
                kept = self.scores[index]
                kept.index_add_(0, self._rows.to(kept.device), each.to(kept))
            chosen = self.coefficients[:, self._rows]  # (1 + K, n)
            together = torch.tensordot(chosen, each, dims=1)
            buffer.add_(together[0])
            sketch.add_(self.sketch(together[1:]))

        return lambda inputs: _ReportingLinear.apply(inputs, module.weight, report)

    def sketch(self, gradients: Tensor) -> Tensor:
        """Return gradients of one LoRA matrix `(K, out, in)`, signed and summed over the rank: `(K, long side)`."""
        signs = self._signs[: gradients[0].numel()].view(gradients.shape[1:])
        rank = 1 if gradients.shape[1] < gradients.shape[2] else 2
        return (gradients * signs).sum(rank)


def _room(
    model: Any, parameters: Sequence[Tensor], count: int, device: torch.device
) -> list[Tensor]:
    """Return room for `count` scores of each matrix, in bf16 where the model computes in 16 bits: fp16 would overflow."""
    kind = torch.bfloat16
    if model.get_input_embeddings().weight.dtype.itemsize > 2:
        kind = torch.promote_types(parameters[0].dtype, torch.float32)
    return [torch.zeros(count, *p.shape, dtype=kind, device=device) for p in parameters]


def _signs(count: int, seed: int) -> Tensor:
    """Return random +1 and -1, the same on every device, `(count,)`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (count,), generator=generator).float() * 2 - 1


class _ReportingLinear(torch.autograd.Function):
    """A linear map whose backward hands (input, output gradient) on instead of summing over completions."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, report: Any) -> Tensor:
        ctx.save_for_backward(inputs, weight)  # saved this way, activation checkpointing works too
        ctx.report = report
        return functional.linear(inputs, weight)

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]  one gradient an output
        inputs, weight = ctx.saved_tensors
        ctx.report(inputs, gradients)
        return gradients @ weight, None, None
