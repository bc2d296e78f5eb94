"""The order in which rows are drawn: each once an epoch, the same for ever, and kept where the rows change."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pytest

from gdpo.runs.order import Drawn, Order


def reference(size: int, seed: int, count: int) -> list[int]:
    """The order as it always was: a shuffle of all places for each epoch, by a seed of its own."""
    drawn: list[int] = []
    while len(drawn) < count:
        digest = hashlib.sha256(f"{seed}/epoch/{len(drawn) // size}".encode()).digest()
        epoch = list(range(size))
        random.Random(int.from_bytes(digest[:7], "big")).shuffle(epoch)
        drawn += epoch
    return drawn[:count]


@pytest.mark.parametrize(("size", "seed"), [(1, 0), (2, 5), (5, 3), (40, 1)])
def test_without_a_past_the_order_is_the_one_of_older_versions(size, seed):
    assert Order(size, seed).places(0, 3 * size + 1) == reference(size, seed, 3 * size + 1)
    assert Order(size, seed).places(size, 2) == reference(size, seed, size + 2)[size:]


def test_the_epoch_that_draws_end_in_is_known():
    rows = ["a", "b", "c"]
    found = [Order(3, 0).drawn(rows, count) for count in range(1, 8)]
    assert [one.epoch for one in found] == [0, 0, 0, 1, 1, 1, 2]
    assert [one.begun for one in found] == [0, 0, 0, 3, 3, 3, 6]
    assert all(set(one.rows) <= set(rows) for one in found)


def changed(random_: random.Random, rows: list[str], kept: set[str]) -> list[str]:
    """Other rows: all that must be kept, some of the others, some new ones, perhaps in another order."""
    stay = [row for row in rows if row in kept or random_.random() < 0.7]
    new = [f"n{random_.randrange(10**9)}" for _ in range(random_.randrange(4))]
    made = [*stay, *new]
    if random_.random() < 0.5:
        random_.shuffle(made)
    return made or ["only"]


@pytest.mark.parametrize("case", range(60))
def test_a_run_that_goes_on_with_other_rows_keeps_what_it_drew_and_misses_none(case):
    random_ = random.Random(case)
    seed, count = random_.randrange(100), random_.randrange(1, 5)
    rows = [f"r{i}" for i in range(random_.randrange(1, 12))]
    past, made = None, 0
    epochs: list[list[str]] = []  # what was drawn in each finished or open epoch
    for _ in range(4):
        order = Order(len(rows), seed, rows, past)
        made += count * random_.randrange(1, 6)
        drawn = order.drawn(rows, made)
        assert [rows[place] for place in order.places(0, made)] == list(drawn.rows)
        if past:  # nothing that was drawn is drawn otherwise
            assert drawn.rows[: len(past.rows)] == past.rows
        epochs = _epochs(drawn, epochs)
        # The open epoch has no row twice, and goes on with all the others before any comes again.
        opened = drawn.rows[drawn.begun :]
        left = len(set(rows) - set(opened))
        later = [rows[place] for place in order.places(made, left)]
        assert len(set(opened)) == len(opened)
        assert Counter(later) == Counter(set(rows) - set(opened))
        past, rows = drawn, changed(random_, rows, set(drawn.rows))


def _epochs(drawn: Drawn, before: list[list[str]]) -> list[list[str]]:
    return [*before[: drawn.epoch], list(drawn.rows[drawn.begun :])]


def test_by_hand():
    """Six rows, two drawn; the file loses one of the other four and gains one."""
    rows = list("abcdef")
    drawn = Order(6, 7).drawn(rows, 2)
    left = [row for row in rows if row not in drawn.rows]
    today = [row for row in rows if row != left[0]] + ["new"]
    order = Order(6, 7, today, drawn)
    assert [today[place] for place in order.places(0, 2)] == list(drawn.rows)
    rest = {today[place] for place in order.places(2, 4)}
    assert rest == {*left[1:], "new"}
    assert {today[place] for place in order.places(6, 6)} == set(today)


def test_rows_of_one_content_are_drawn_as_often_as_they_are_there():
    rows = ["a", "a", "b"]
    drawn = Order(3, 0).drawn(rows, 2)
    order = Order(4, 0, [*rows, "c"], drawn)
    epoch = [[*rows, "c"][place] for place in order.places(0, 4)]
    assert sorted(epoch) == ["a", "a", "b", "c"]
