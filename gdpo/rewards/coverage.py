"""Which prompts a reward can score, found out from the prompts alone, before anything is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..errors import RewardError, joined, shorten
from ..prompts import Prompt
from .reward import Reward

_SHOWN_COLUMNS = 12
_SHOWN_ROWS = 3
_PROMPTS_BETWEEN_POLLS = 256


def check_coverage(
    rewards: Sequence[Reward],
    prompts: Sequence[Prompt],
    heldout: Sequence[Prompt] = (),
    *,
    poll: Callable[[], None] = lambda: None,
) -> list[str]:
    """Refuse a reward that could score no prompt; return a line on each that can score some of them only.

    A scorer says it by a method `check(prompt)`: True where it can score the prompt, False where the
    row has nothing to score by, an error where what the row has is of no use. A scorer without this
    method, a function for example, is not asked.

    Args:
        rewards: The rewards; their gates are looked at as well.
        prompts: The prompts that will be trained on.
        heldout: The prompts that will be evaluated on; scoring none of them is told, not refused.
        poll: Function that is called now and then; it may raise to stop.

    Raises:
        RewardError: A reward can score none of the prompts, or a row of the prompts cannot be used.
        PreflightError: There are several such findings, of one reward or of several.
    """
    lines: list[str] = []
    refused: list[RewardError] = []
    for reward in _with_gates(rewards):
        for rows, what, must in ((prompts, "prompts", True), (heldout, "held-out prompts", False)):
            try:
                lines += _look(reward, rows, what, poll, must=must)
            except RewardError as error:
                refused.append(error)
    if refused:
        raise joined(refused)
    return lines


def _look(
    reward: Reward, rows: Sequence[Prompt], what: str, poll: Callable[[], None], *, must: bool
) -> list[str]:
    """Refuse or tell of one reward and one set of prompts; `must` is whether it has to score some of them."""
    scored = _count(reward, rows, poll)
    if must and rows and scored == 0:
        raise RewardError(
            f"{_name(reward)} can score none of the {len(rows)} {what}: "
            f"{_missing(reward)}. The columns are {_columns(rows)}; {_remedy(reward)}."
        )
    return _tell(reward, scored, len(rows), what)


def _tell(reward: Reward, scored: int, count: int, what: str) -> list[str]:
    if scored == count:
        return []
    share = f"{scored} of {count} {what} ({100 * scored / count:.3g} %)"
    return [f"{_name(reward)} can score {share}; in the others {_missing(reward)}."]


def _with_gates(rewards: Sequence[Reward]) -> Iterator[Reward]:
    """Yield one reward for each scorer that checks prompts."""
    seen = set()
    for reward in rewards:
        link: Reward | None = reward
        while link is not None:
            if hasattr(link.scorer, "check") and link.scorer not in seen:
                seen.add(link.scorer)
                yield link
            link = link.gate


def _count(reward: Reward, prompts: Sequence[Prompt], poll: Callable[[], None]) -> int:
    """Return how many prompts the reward can score; all rows that cannot be used are reported together."""
    scored, bad, problems = 0, 0, []
    for index, prompt in enumerate(prompts):
        if index % _PROMPTS_BETWEEN_POLLS == 0:
            poll()
        try:
            scored += bool(reward.scorer.check(prompt))
        except Exception as error:  # noqa: BLE001  a scorer may be anyone's code
            bad += 1
            if bad <= _SHOWN_ROWS:
                problems.append(f"{prompt.place}: {_reason(error)}")
    if bad:
        rows = "a row" if bad == 1 else f"{bad} rows"
        more = "; ..." if bad > _SHOWN_ROWS else ""
        raise RewardError(f"{_name(reward)} cannot use {rows}: {'; '.join(problems)}{more}")
    return scored


def _name(reward: Reward) -> str:
    return f"Reward {reward.name!r} ({reward.scorer.kind})"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, RewardError) else f"{type(error).__name__}: {text}"


def _missing(reward: Reward) -> str:
    field = getattr(reward.scorer, "field", None)
    return (
        f"the column {shorten(field)} is absent or empty" if field else "it has nothing to score by"
    )


def _remedy(reward: Reward) -> str:
    named = getattr(reward.scorer, "field", None)
    return "name one of them in `field`" if named else "choose other prompts or another reward"


def _columns(prompts: Sequence[Prompt]) -> str:
    """Return the names of the prompts' columns, as a list in words."""
    names = list(dict.fromkeys(name for prompt in prompts for name in prompt.fields))
    shown = ", ".join(map(shorten, names[:_SHOWN_COLUMNS])) or "only those of the prompt itself"
    return shown + (", ..." if len(names) > _SHOWN_COLUMNS else "")
