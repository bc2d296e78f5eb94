"""How far two ways of making one number may lie apart through rounding alone, on any processor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch

# Rounding errors of a sum are as good as random: n of them add up to more than 8 sqrt(n) units of
# roundoff with a probability below 1e-13 (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019,
# theorem 2.4). A unit is half of eps.
_DEVIATIONS = 8.0


def bound(terms: int, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    """The largest difference that the order of additions can make.

    The order is a processor's own choice: it depends on the width of its registers and on the
    number of threads. A bound that was merely measured holds on one machine.

    Args:
        terms: Number of terms of the sum; of a chain of sums, those of all of them together.
        scale: Sum of the terms' absolute values, or the largest result where terms do not cancel.
        dtype: Type in which the sum is made.
    """
    return _DEVIATIONS * math.sqrt(terms) * torch.finfo(dtype).eps / 2 * scale


def close(found: torch.Tensor, wanted: torch.Tensor, terms: int) -> None:
    """Assert that both are the same sum of `terms` terms, up to rounding in their own type.

    The largest number of `wanted` is the scale: the entries of a gradient are sums over the same
    terms, and a small one is small because its terms cancel.
    """
    scale = float(wanted.detach().abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=bound(terms, scale, wanted.dtype))


def same_scores(
    found: torch.Tensor, wanted: torch.Tensor, model: torch.nn.Module, what: str = "logprobs"
) -> None:
    """Assert that log-probabilities, or entropies, of two float32 passes through `model` agree.

    An error d of all log-probabilities changes an entropy, the sum of p log p over V tokens, by up
    to (1 + log V) d.
    """
    allowed = bound(path_length(model), max(1.0, float(wanted.abs().max())))
    if what == "entropy":
        allowed *= 1 + math.log(model.config.vocab_size)
    torch.testing.assert_close(found, wanted, rtol=0, atol=allowed)


def path_length(model: torch.nn.Module) -> int:
    """Number of additions on the way of a token through `model`, from its embedding to a logit.

    Each linear layer sums over its inputs; attention sums over positions, of which the models of
    these tests see fewer than a layer has inputs.
    """
    linear = [part for part in model.modules() if isinstance(part, torch.nn.Linear)]
    return sum(2 * part.in_features for part in linear)


@contextmanager
def float64_throughout() -> Iterator[None]:
    """Nothing rounds a float64 tensor to float32 inside the block.

    Models of transformers compute norms and softmaxes in float32, whatever their own type is, so a
    comparison of float64 models would see that rounding.
    """
    to, softmax = torch.Tensor.to, torch.nn.functional.softmax

    def kept(tensor: torch.Tensor, wanted: object) -> object:
        narrows = wanted is torch.float32 and tensor.dtype == torch.float64
        return torch.float64 if narrows else wanted

    def same_to(tensor, *args, **options):
        options = {name: kept(tensor, value) for name, value in options.items()}
        return to(tensor, *(kept(tensor, arg) for arg in args), **options)

    def same_softmax(tensor, *args, dtype=None, **options):
        return softmax(tensor, *args, dtype=kept(tensor, dtype), **options)

    with (
        mock.patch.object(torch.Tensor, "to", same_to),
        mock.patch.object(torch.Tensor, "float", lambda tensor: same_to(tensor, torch.float32)),
        mock.patch.object(torch.nn.functional, "softmax", same_softmax),
    ):
        yield
