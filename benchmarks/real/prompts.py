"""Makes the questions of the benchmark, with their answers, for training and held out.

A question is in one of the two sets only, and none is among the examples that every prompt begins with: a base model,
which has seen no conversations, learns from them what is asked of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from gdpo import Prompt, make_prompt

HELDOUT = 48

_CAPITALS = (
    "Argentina Buenos_Aires, Australia Canberra, Austria Vienna, Belgium Brussels, Brazil Brasilia, "
    "Bulgaria Sofia, Canada Ottawa, Chile Santiago, China Beijing, Colombia Bogota, Cuba Havana, "
    "Denmark Copenhagen, Egypt Cairo, Ethiopia Addis_Ababa, Finland Helsinki, France Paris, Germany Berlin, "
    "Greece Athens, Hungary Budapest, Iceland Reykjavik, India New_Delhi, Indonesia Jakarta, Iran Tehran, "
    "Iraq Baghdad, Ireland Dublin, Japan Tokyo, Kenya Nairobi, Lebanon Beirut, Mexico Mexico_City, "
    "Morocco Rabat, Nepal Kathmandu, Norway Oslo, Pakistan Islamabad, Peru Lima, Poland Warsaw, "
    "Portugal Lisbon, Romania Bucharest, Russia Moscow, Serbia Belgrade, South_Korea Seoul, Spain Madrid, "
    "Sweden Stockholm, Switzerland Bern, Syria Damascus, Thailand Bangkok, Turkey Ankara, Ukraine Kyiv, "
    "Uruguay Montevideo, Venezuela Caracas, Vietnam Hanoi"
)
_SYMBOLS = (
    "hydrogen H, helium He, lithium Li, carbon C, nitrogen N, oxygen O, neon Ne, sodium Na, magnesium Mg, "
    "aluminium Al, silicon Si, phosphorus P, sulfur S, chlorine Cl, potassium K, calcium Ca, titanium Ti, "
    "iron Fe, nickel Ni, copper Cu, zinc Zn, silver Ag, tin Sn, iodine I, platinum Pt, mercury Hg, lead Pb, "
    "uranium U"
)
_OPPOSITES = (
    "big small, long short, fast slow, old young, rich poor, early late, light dark, wet dry, hard soft, "
    "open closed, full empty, happy sad, strong weak, high low, near far, left right, day night, black white, "
    "true false, first last, up down, inside outside, good bad, clean dirty, easy difficult, love hate, "
    "north south, east west, win lose, buy sell, begin end, push pull, always never, alive dead, loud quiet, "
    "wide narrow, sweet sour, thick thin"
)
_COLOURS = (
    "grass green, snow white, coal black, blood red, a_ripe_banana yellow, a_carrot orange, chocolate brown, "
    "an_elephant grey, the_clear_sky blue, a_ripe_tomato red, milk white, a_lemon yellow"
)
_KINDS = {
    "What is the capital of {}?": _CAPITALS,
    "What is the chemical symbol of {}?": _SYMBOLS,
    "What is the opposite of {}?": _OPPOSITES,
    "What colour is {}?": _COLOURS,
}
# Other answers that are as good.
_ALSO = {"big": "little", "easy": "hard", "old": "new", "begin": "finish", "thick": "slim"}

_EXAMPLES = (
    "Answer each question in a short sentence that begins with 'It is'.\n\n"
    "Q: What is the capital of Italy?\nA: It is Rome.\n\n"
    "Q: What is the opposite of hot?\nA: It is cold.\n\n"
    "Q: What is the chemical symbol of gold?\nA: It is Au.\n\n"
    "Q: What colour is a ripe cherry?\nA: It is red.\n\n"
)
ASKED = "Q: {}\nA:"


def questions(seed: int) -> tuple[tuple[Prompt, ...], tuple[Prompt, ...]]:
    """Return the prompts to train on and those that are held out, each with its answers in `reference`.

    Args:
        seed: Seed of the division into the two sets.
    """
    facts = list(_facts())
    random.Random(seed).shuffle(facts)
    return tuple(facts[HELDOUT:]), tuple(facts[:HELDOUT])


def question_of(prompt: Prompt) -> str:
    """Return the question alone, without the examples before it."""
    return prompt.text.rpartition("Q: ")[2].partition("\n")[0]


def _facts() -> Iterator[Prompt]:
    for question, pairs in _KINDS.items():
        for pair in pairs.split(", "):
            thing, answer = (word.replace("_", " ") for word in pair.split(" "))
            also = [_ALSO[thing]] if thing in _ALSO and "opposite" in question else []
            yield _prompt(question.format(thing), [answer, *also])


def _prompt(question: str, answers: list[str]) -> Prompt:
    return make_prompt(_EXAMPLES + ASKED.format(question), fields={"reference": answers})
