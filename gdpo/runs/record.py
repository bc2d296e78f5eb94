"""The records of a run: what one line of its history, and of its completions, holds.

Training writes them; the figure, the page, the findings, a resumed training and the benchmarks read them. A `Number`
and a `Size` are null where they were not finite or nothing was measured. The page has the same types in `web/record.mjs`.
"""

from __future__ import annotations

from typing import TypedDict

from .shape import Number, Size, checker


class RewardFigures(TypedDict):
    """One reward over the completions of a step.

    Attributes:
        mean: Mean in the reward's own unit; null if it scored nothing.
        std: Standard deviation over the completions, in the reward's own unit.
        dead_groups: Share of the groups, 0 to 1, in which all completions have the same score and nothing is learned.
    """

    mean: Number
    std: Size
    dead_groups: Number


class HeldoutFigures(TypedDict):
    """One reward over the completions of an evaluation.

    Attributes:
        mean: Mean in the reward's own unit; null if it scored nothing.
        standard_error: Standard error of the mean; null with fewer than two scores.
    """

    mean: Number
    standard_error: Size


class LengthFigures(TypedDict):
    """Lengths of completions, in tokens.

    Attributes:
        mean: Mean over the completions.
        std: Standard deviation over the completions.
    """

    mean: float
    std: float


class Evaluation(TypedDict):
    """Rewards on held-out prompts, one completion for each.

    Attributes:
        rewards: Figures of each reward by its name, in the order of the objective.
        length: Lengths of the completions.
        truncated: Share of the completions, 0 to 1, that the token limit cut off.
    """

    rewards: dict[str, HeldoutFigures]
    length: LengthFigures
    truncated: Number


class Seconds(TypedDict):
    """How long a step took, in seconds.

    Attributes:
        sample: Sampling the completions.
        score: Scoring them.
        update: The passes through the model and the optimiser's step.
        total: The whole step.
    """

    sample: Number
    score: Number
    update: Number
    total: Number


class Figures(TypedDict, total=False):
    """Everything in a step's record but its number; each key may be absent.

    The record before the first step holds an evaluation alone, a step without evaluation has none, and older versions
    of the pack wrote fewer keys. K rewards, in the order of the objective.

    Attributes:
        rewards: Figures of each reward by its name; absent from a record that is an evaluation alone.
        preferences: Share of each reward that was wished for at this step, by name; they sum to 1 unless directed.
        weights: Share of each reward in this step's advantages, by name; they sum to 1.
        deficits: Part of each reward's way to its target that is left, by name: 1 at the start, 0 at the target.
        cosines: Cosine between the gradients of two rewards, (K, K), -1 to 1, smoothed over about ten steps.
        dispersion: Evenness with which the weighted gradients spread over directions, 1/K to 1.
        dispersion_floor: The least dispersion that was asked for; null where the method does not set the weights.
        dispersion_reached: True if the dispersion is at its floor or above.
        length: Lengths of the completions.
        truncated: Share of the completions, 0 to 1, that the token limit cut off.
        entropy: Entropy of the policy, in nats per token.
        sampler_gap: Mean difference of the log-probabilities between sampling and update, in nats per token.
        kl: Divergence from the base, in nats per token.
        grad_norm: Norm of the gradient before it was clipped.
        learning_rate: Size of the optimiser's step; absent from a natural step, which has the next four.
        step_kl: Divergence of the policy that the step was to bring, in nats per completion.
        step_kl_measured: The divergence that it brought, likewise, measured on one completion of each prompt.
        step_shortened: True if it went so much too far that it was taken back in part.
        signals: Share of each reward's direction, 0 to 1, that held for prompts that were left out, by name; null where a
            reward told no completion from another.
        sampled_again: Number of prompts that were sampled a second time, since their completions said nothing of the
            reward that is furthest behind.
        tokens_per_second: Sampled tokens per second of sampling.
        seconds: Duration of the step.
        peak_memory_mb: Most memory so far, in MiB: of the card on CUDA, of the process otherwise.
        eval: The evaluation after this step.
        converged: True if every reward had held its target in the last evaluations; present where `eval` is.
    """

    rewards: dict[str, RewardFigures]
    preferences: dict[str, Number]
    weights: dict[str, Number]
    deficits: dict[str, Number]
    cosines: list[list[Number]]
    dispersion: Number
    dispersion_floor: Number
    dispersion_reached: bool
    length: LengthFigures
    truncated: Number
    entropy: Number
    sampler_gap: Number
    kl: Number
    grad_norm: Number
    learning_rate: Number
    step_kl: Number
    step_kl_measured: Number
    step_shortened: bool
    signals: dict[str, Number]
    sampled_again: int
    tokens_per_second: Number
    seconds: Seconds
    peak_memory_mb: Number
    eval: Evaluation
    converged: bool


class StepRecord(Figures):
    """What is known of one step, with the evaluation after it.

    Attributes:
        step: Number of finished steps; 0 before the first.
    """

    step: int


class CompletionRecord(TypedDict):
    """One sampled completion.

    Attributes:
        step: Number of the step that it was sampled for.
        prompt: Text of the prompt.
        completion: Text of the completion.
        rewards: Its scores by the reward's name; null where a reward did not score it.
    """

    step: int
    prompt: str
    completion: str
    rewards: dict[str, Number]


# Each takes one parsed line and gives the record without unknown keys, or raises `MisfitError`.
step_from_json = checker(StepRecord)
completion_from_json = checker(CompletionRecord)
