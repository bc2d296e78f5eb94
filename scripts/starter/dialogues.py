"""Seeded synthetic support-desk dialogues: one message of a customer, one reply of the desk.

A reply draws three things independently of the message: its manner (polite or curt), its length
class, and whether it gives the right fix, the fix of another problem, or none. So a model that
learned from it knows every combination, among them the polite, short and right one, and
reinforcement learning has to find out which one is wanted. Polite replies are longer on average, so
politeness and brevity conflict.

Run `python -m scripts.starter.dialogues` to rewrite the two prompt files beside this module.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # Run by path: make the package known, so that the imports below hold.
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "scripts.starter"

from scripts.starter.phrases import (
    CURT,
    NEUTRAL_FILLERS,
    POLITE,
    SEEN,
    THINGS,
    UNSEEN,
    Manner,
    UserPhrases,
)

TRAIN_SEED, TRAIN_COUNT = 11, 512
HELDOUT_SEED, HELDOUT_COUNT = 12, 128

POLITE_WORDS = re.compile(
    r"\b(please|thanks?|sorry|apologies|happy to help|glad|kindly|kind regards|appreciate|welcome"
    r"|pleasure|may I)\b",
    re.IGNORECASE,
)

# Shares, in the order of LENGTHS. Polite replies are long more often: that is the conflict.
LENGTHS = ("short", "medium", "long")
LENGTH_SHARES = {"polite": (0.15, 0.27, 0.58), "curt": (0.27, 0.33, 0.40)}
# Words plus punctuation marks that fillers may fill a reply up to, per length class.
FILL_UP_TO = {"medium": (26, 42), "long": (48, 65)}
SHORTEST_FILLER = 8  # units; hardly any sentence fits into less room
OPENING_SHARE = {"polite": 0.8, "curt": 0.35}
CLOSING_SHARE = {"polite": 0.55, "curt": 0.35}
FIXES = ("right", "wrong", "none")
FIX_SHARES = (0.45, 0.33, 0.22)
SAME_PRODUCT_SHARE = 0.65  # of wrong fixes: the fix of another problem of the same product


@dataclass(frozen=True)
class Problem:
    """One problem of one product, with the fix that counts as right and ways to describe it."""

    product: str
    problem: str
    fix: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class Style:
    """How a reply is written: manner `polite`/`curt`, one of `LENGTHS`, one of `FIXES`."""

    manner: str
    length: str
    fix: str


@dataclass(frozen=True)
class Dialogue:
    """One exchange with what is true about it."""

    user: str
    reply: str
    problem: Problem
    style: Style


def load_catalogue() -> tuple[Problem, ...]:
    """Return all problems of the table `catalogue.jsonl`, in its order."""
    text = (Path(__file__).parent / "catalogue.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple(
        Problem(**row | {"seen": tuple(row["seen"]), "unseen": tuple(row["unseen"])})
        for row in rows
    )


def capital(text: str) -> str:
    """`text` with its first letter in upper case and the rest untouched."""
    return text[:1].upper() + text[1:]


def is_polite(reply: str) -> bool:
    """Tell whether a reply holds at least one polite expression."""
    return POLITE_WORDS.search(reply) is not None


def count_units(text: str) -> int:
    """Return words plus punctuation marks, which is close to the number of tokens."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def user_message(rng: random.Random, problem: Problem, heldout: bool = False) -> str:
    """Return a customer's description of `problem`; held-out messages share no symptom text or frame."""
    phrases: UserPhrases = UNSEEN if heldout else SEEN
    symptom = rng.choice(problem.unseen if heldout else problem.seen)
    thing = rng.choice(THINGS).format(product=problem.product)
    body = rng.choice(phrases.frames).format(
        thing=thing, Thing=capital(thing), s=symptom, S=capital(symptom), product=problem.product
    )
    context = rng.choice(phrases.contexts).format(n=rng.randrange(1000, 10000))
    parts = (rng.choice(phrases.greetings), body, context, rng.choice(phrases.questions))
    return " ".join(part for part in parts if part)


def sample_style(rng: random.Random, fix_shares: tuple[float, ...] = FIX_SHARES) -> Style:
    """Return a manner, a length class and a kind of fix, drawn with the shares above."""
    manner = rng.choice(("polite", "curt"))
    length = rng.choices(LENGTHS, LENGTH_SHARES[manner])[0]
    return Style(manner, length, rng.choices(FIXES, fix_shares)[0])


def wrong_fix(rng: random.Random, problem: Problem, catalogue: tuple[Problem, ...]) -> str:
    """Return the fix of another problem, more often of the same product."""
    same = rng.random() < SAME_PRODUCT_SHARE
    others = [other for other in catalogue if other != problem]
    return rng.choice([o.fix for o in others if (o.product == problem.product) == same])


def fill(rng: random.Random, pool: list[str], used: int, limit: int) -> list[str]:
    """Sentences of `pool`, no two alike, until `used` units have grown to about `limit`."""
    chosen: list[str] = []
    for sentence in rng.sample(pool, len(pool)):
        size = count_units(sentence)
        if sentence not in chosen and used + size <= limit:
            chosen.append(sentence)
            used += size
        if limit - used < SHORTEST_FILLER:
            break
    return chosen


def advise(
    rng: random.Random, manner: Manner, kind: str, problem: Problem, catalogue: tuple[Problem, ...]
) -> tuple[str, str]:
    """Return the sentence that gives the fix (or evades) and one that repeats it (empty if it evades)."""
    if kind == "none":
        return rng.choice(manner.evasions), ""
    fix = problem.fix if kind == "right" else wrong_fix(rng, problem, catalogue)
    advice = rng.choice(manner.advice).format(fix=fix, Fix=capital(fix))
    return advice, rng.choice(manner.repeats).format(fix=fix)


def desk_reply(
    rng: random.Random, problem: Problem, style: Style, catalogue: tuple[Problem, ...]
) -> str:
    """Return a reply to `problem` in `style`; a given fix appears in it word for word."""
    manner = POLITE if style.manner == "polite" else CURT
    opening = rng.choice(manner.openings) if rng.random() < OPENING_SHARE[style.manner] else ""
    closing = rng.choice(manner.closings) if rng.random() < CLOSING_SHARE[style.manner] else ""
    advice, repeat = advise(rng, manner, style.fix, problem, catalogue)
    fillers: list[str] = []
    if style.length != "short":
        # A sentence that is in the pool twice is drawn sooner.
        pool = [*NEUTRAL_FILLERS, *manner.fillers * 2, *[repeat] * (2 if repeat else 0)]
        used = count_units(f"{opening} {advice} {closing}")
        fillers = fill(rng, pool, used, rng.randint(*FILL_UP_TO[style.length]))
    plain = [sentence for sentence in fillers if sentence != repeat]
    split = rng.randint(0, len(plain))
    after = [*plain[split:], *[sentence for sentence in fillers if sentence == repeat]]
    parts = [opening, *plain[:split], advice, *after, closing]
    return " ".join(part for part in parts if part).replace("{product}", problem.product)


def dialogues(
    seed: int,
    count: int | None,
    heldout: bool = False,
    fix_shares: tuple[float, ...] = FIX_SHARES,
) -> Iterator[Dialogue]:
    """`count` dialogues (None: without end), the same for the same seed on every machine."""
    rng = random.Random(seed)
    catalogue = load_catalogue()
    for _ in itertools.count() if count is None else range(count):
        problem = rng.choice(catalogue)
        style = sample_style(rng, fix_shares)
        user = user_message(rng, problem, heldout)
        yield Dialogue(user, desk_reply(rng, problem, style, catalogue), problem, style)


def prompt_rows(seed: int, count: int, heldout: bool = False) -> list[dict[str, str]]:
    """`count` different prompts with their reference fix, the problems in equal numbers."""
    rng = random.Random(seed)
    catalogue = load_catalogue()
    rows: dict[str, dict[str, str]] = {}
    order: list[Problem] = []
    while len(rows) < count:
        order = order or rng.sample(catalogue, len(catalogue))
        problem = order.pop()
        message = user_message(rng, problem, heldout)
        while message in rows:
            message = user_message(rng, problem, heldout)
        rows[message] = {
            "prompt": message,
            "reference": problem.fix,
            "product": problem.product,
            "problem": problem.problem,
        }
    return list(rows.values())


def write_prompts(folder: Path) -> None:
    """Write `train.jsonl` and `heldout.jsonl` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("train.jsonl", prompt_rows(TRAIN_SEED, TRAIN_COUNT)),
        ("heldout.jsonl", prompt_rows(HELDOUT_SEED, HELDOUT_COUNT, heldout=True)),
    ):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_prompts(Path(__file__).parent / "prompts")
