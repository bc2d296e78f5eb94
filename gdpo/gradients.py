r"""The gradients of all rewards from one backward pass.

With A_ki the advantage of completion i under reward k and l_i its log-likelihood, the gradient of reward k is

    g_k = (1/N) \sum_i A_ki s_i,    s_i = grad l_i.

One backward pass of \sum_i l_i meets, at each LoRA matrix, the input x_i and the output gradient d_i of every
completion; s_i = d_i^T x_i there is a batched product, which is contracted with the advantages at once and
added to K buffers. The cost hardly depends on K, and |s_i|^2, which the Gramian's correction needs, comes free.
This needs a loss that is linear in the advantage: one optimiser step for each batch of rollouts, no clipping.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .errors import TrainingError


class RewardGradients:
    """Buffers of R gradients of a model's LoRA matrices, filled by `backward`.

    Attributes:
        count: R.
        parameters: The LoRA matrices, in the model's order.
        buffers: For each of them the R gradients, `(R, *shape)`, fp32.
        squared_norms: |s_i|^2 of each completion, `(N,)`.
    """

    def __init__(self, model: Any, coefficients: Tensor) -> None:
        """Prepare for the rows of `coefficients` (R, N): row r gives sum_i coefficients_ri s_i."""
        self._modules = _lora_linears(model)
        self._coefficients = coefficients
        self.count = len(coefficients)
        self._rows = coefficients.new_empty(0, dtype=torch.long)
        self.parameters = [module.weight for module in self._modules]
        self.buffers = [
            torch.zeros(len(coefficients), *weight.shape, device=weight.device)
            for weight in self.parameters
        ]
        self.squared_norms = torch.zeros(coefficients.shape[1], device=coefficients.device)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Let the LoRA matrices report to the buffers while the forward passes run."""
        for module, buffer in zip(self._modules, self.buffers, strict=True):
            module.forward = self._reporting(module, buffer)
        try:
            yield
        finally:
            for module in self._modules:
                del module.forward  # the class's own method shows again

    def backward(self, likelihoods: Tensor, rows: Tensor) -> None:
        """Add the completions `rows` (n,) of log-likelihood `likelihoods` (n,) to the buffers."""
        self._rows = rows
        likelihoods.sum().backward()

    def combine(self, weights: Tensor) -> list[Tensor]:
        """The weighted sum of the R gradients for each parameter."""
        return [torch.tensordot(weights.to(b), b, dims=1) for b in self.buffers]

    def inner_products(self) -> Tensor:
        """All inner products of the R gradients, `(R, R)`, float64."""
        flat = (buffer.flatten(1) for buffer in self.buffers)
        return torch.stack([(b @ b.T).double() for b in flat]).sum(0)

    def _reporting(self, module: Any, buffer: Tensor) -> Any:
        def report(inputs: Tensor, gradients: Tensor) -> None:
            if inputs.dim() < 3 or len(inputs) != len(self._rows):
                raise TrainingError(
                    f"A LoRA layer received input of shape {tuple(inputs.shape)} for {len(self._rows)} completions: "
                    "this architecture runs them together (as routed experts do), so the rewards' gradients "
                    "cannot be told apart; train another model."
                )
            inputs, gradients = inputs.flatten(1, -2), gradients.flatten(1, -2)
            # (n, out, T) @ (n, T, in): the gradient of each completion
            each = gradients.float().transpose(1, 2) @ inputs.float()
            self.squared_norms.index_add_(0, self._rows, each.flatten(1).square().sum(1))
            chosen = self._coefficients[:, self._rows].to(each)  # (R, n)
            buffer.add_(torch.tensordot(chosen, each, dims=1))

        return lambda inputs: _ReportingLinear.apply(inputs, module.weight, report)


class _ReportingLinear(torch.autograd.Function):
    """A linear map whose backward hands (input, output gradient) on instead of summing over completions."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, report: Any) -> Tensor:
        ctx.save_for_backward(inputs, weight)  # saved this way, activation checkpointing works too
        ctx.report = report
        return functional.linear(inputs, weight)

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, None, None]:
        inputs, weight = ctx.saved_tensors
        ctx.report(inputs, gradients)
        return gradients @ weight, None, None


def _lora_linears(model: Any) -> list[Any]:
    """The A and B matrices of the adapter that is being trained, as the linear modules they are.

    Raises:
        TrainingError: Something else is trainable, whose gradient would be lost.
    """
    modules = [
        module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and module.weight.requires_grad
        and (".lora_A." in name or ".lora_B." in name)
    ]
    ours = {id(module.weight) for module in modules}
    others = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in ours]
    if others or not modules:
        raise TrainingError(
            f"Only the A and B matrices of plain LoRA can be trained. Found {others[:1] or 'none'}; "
            "use an adapter without DoRA, bias or trained embeddings."
        )
    return modules
