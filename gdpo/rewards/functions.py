"""Rewards that are functions: of one completion, or of a batch in the form that TRL's trainers take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import RewardError, shorten
from ..prompts import Prompt
from .scorer import Completion

ScoringFunction = Callable[[Prompt, Completion], "float | None"]


@dataclass(frozen=True)
class FunctionScorer:
    """Scores with a function of the prompt and the completion.

    Attributes:
        function: Gives a number inside `value_range`, or None where this prompt cannot be scored.
        value_range: The lowest and the highest score.
    """

    function: ScoringFunction
    value_range: tuple[float, float] = (0.0, 1.0)

    kind: ClassVar[str] = "function"
    summary: ClassVar[str] = "Rewards what a function of one's own says."

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """Return what the function says."""
        return self.function(prompt, completion)


@dataclass(frozen=True)
class BatchScorer:
    """Scores with a function in TRL's form, a whole batch at a time.

    Attributes:
        function: Function that is called as `function(prompts=..., completions=..., **columns)` with lists of one length: texts, and
            the values of every column that the prompts have. Returns a list of numbers, None where unscored.
        value_range: The lowest and the highest score.
        conversational: True if prompts and completions are lists of messages instead of texts.
    """

    function: Callable[..., Sequence[float | None]]
    value_range: tuple[float, float] = (0.0, 1.0)
    conversational: bool = False

    kind: ClassVar[str] = "batch function"
    summary: ClassVar[str] = "Rewards what a function in TRL's form says."

    def score(self, prompt: Prompt, completion: Completion) -> float | None:
        """Return the score of one completion alone."""
        return self.score_batch([prompt], [completion])[0]

    def score_batch(
        self, prompts: Sequence[Prompt], completions: Sequence[Completion]
    ) -> list[float | None]:
        """Return the scores of all completions, in one call.

        Raises:
            RewardError: The function returned another number of scores.
        """
        names = list(dict.fromkeys(name for prompt in prompts for name in prompt.fields))
        columns: dict[str, list[Any]] = {
            name: [prompt.fields.get(name) for prompt in prompts] for name in names
        }
        found = self.function(
            prompts=[self._as_prompt(prompt) for prompt in prompts],
            completions=[self._as_completion(completion) for completion in completions],
            **{name: values for name, values in columns.items() if name not in _TAKEN},
        )
        if not isinstance(found, Sequence) or len(found) != len(completions):
            raise RewardError(
                f"a batch function must return a list of {len(completions)} scores. Found {shorten(found)}"
            )
        return list(found)

    def _as_prompt(self, prompt: Prompt) -> Any:
        messages = [{"role": role, "content": content} for role, content in prompt.messages]
        return messages if self.conversational else prompt.text

    def _as_completion(self, completion: Completion) -> Any:
        message = {"role": "assistant", "content": completion.text}
        return [message] if self.conversational else completion.text


_TAKEN = {"prompts", "completions"}


def from_trl(
    function: Callable[..., Sequence[float | None]],
    value_range: tuple[float, float] = (0.0, 1.0),
    *,
    conversational: bool = False,
) -> BatchScorer:
    """Return a scorer from a reward function that was written for TRL.

    The function is called once for all completions of a step, with keywords, as TRL does. It gets `prompts`,
    `completions` and each column of the prompts; `completion_ids` and `trainer_state` are not there.
    Unlike TRL's, the completions hold the special tokens that the model said, other than those that end them.

    Args:
        function: `def f(prompts, completions, **columns) -> list[float]`.
        value_range: The lowest and the highest score that it gives.
        conversational: True if it expects lists of messages, `[{"role": ..., "content": ...}]`, as TRL hands over from
            conversational data sets, instead of texts.
    """
    return BatchScorer(function, value_range, conversational)
