"""What has been drawn so far: tokens, their numbers, and which rows have ended."""

from __future__ import annotations

import torch
from torch import Tensor

from .choose_token import Picks, pick


class Rows:
    """The N rows that are sampled; the live ones get a token at a time.

    Row i depends on its own row of `uniforms` alone, so it is the same however many rows are left.

    Attributes:
        ids, logprobs, entropy: `(N, T)`; what lies behind a row's end has no meaning before `finish`.
        lengths: Tokens of each row, the stop token with them, `(N,)`.
        ended: True if the row ended by itself, `(N,)`.
    """

    def __init__(self, uniforms: Tensor, temperature: float, stops: Tensor) -> None:
        """Begin with all rows live.

        Args:
            uniforms: Random numbers in [0, 1), one for each token that may be drawn, `(N, T)`.
            temperature: Divides the logits; 0 takes the likeliest token.
            stops: Ids of the tokens that end a row.
        """
        self._temperature, self._stops = temperature, stops
        self.ids = torch.zeros(uniforms.shape, dtype=torch.long, device=uniforms.device)
        self.logprobs, self.entropy = torch.zeros_like(uniforms), torch.zeros_like(uniforms)
        self.lengths = torch.zeros_like(self.ids[:, 0])
        self.ended = torch.zeros_like(self.lengths, dtype=torch.bool)
        self._rows = torch.arange(len(uniforms), device=uniforms.device)
        self._live = ~self.ended
        self._count = self.lengths.clone()
        self._columns = uniforms.t().contiguous()
        self._picks: list[Picks] = []  # since the last row left
        self._time = 0

    def draw(self, logits: Tensor) -> Tensor:
        """Draw the next token `(n,)` of the rows that have not left."""
        picks = pick(logits, self._temperature, self._columns[self._time])
        self._picks.append(picks)
        self._time += 1
        self._count += self._live
        self._live &= (picks.tokens[:, None] != self._stops).all(1)
        return picks.tokens

    def done(self) -> int:
        """Return rows that have ended and are still here."""
        return len(self._live) - int(self._live.sum())

    def leave(self) -> Tensor:
        """Drop what has ended, and return the indices of the rows that stay."""
        stay = self._live.nonzero()[:, 0]
        self._write()
        self._rows, self._live, self._count = self._rows[stay], self._live[stay], self._count[stay]
        self._columns = self._columns[:, stay]
        return stay

    def finish(self, pad: int) -> Tensor:
        """Put padding behind each row's end, and return the mask of what lies before it."""
        self._write()
        mask = torch.arange(self.ids.shape[1], device=self.ids.device) < self.lengths[:, None]
        self.ids[~mask], self.logprobs[~mask], self.entropy[~mask] = pad, 0.0, 0.0
        return mask

    def _write(self) -> None:
        begin = self._time - len(self._picks)
        for whole, parts in zip(
            (self.ids, self.logprobs, self.entropy), zip(*self._picks, strict=True), strict=False
        ):
            whole[self._rows, begin : self._time] = torch.stack(parts, 1)
        self._picks.clear()
        self.lengths[self._rows], self.ended[self._rows] = self._count, ~self._live
