"""The speed benchmark: like is compared with like, and the tables say what was found."""

from __future__ import annotations

import pytest
import torch

from benchmarks.common.batches import make_optimizer, random_rollouts
from benchmarks.common.updates import by_library, one_pass
from benchmarks.speed import __main__ as speed, cards, growth, logits, phases
from benchmarks.speed.slopes import bytes_per_logit, exponents, step_row
from benchmarks.speed.tables import page


@pytest.fixture(scope="module")
def model():
    """That of the memory's cells, with the smallest vocabulary; float64, so that only real differences show."""
    return logits.make_model(2048, "cpu").double()


@pytest.mark.parametrize("way", logits.WAYS)
def test_either_way_of_scoring_gives_the_update_that_the_library_makes(model, way):
    def batch():
        return logits.batch_of(model, make_optimizer(model), 4)

    torch.manual_seed(5)
    usual = batch()
    expected = one_pass(usual, by_library)
    torch.manual_seed(5)
    other = batch()
    assert torch.equal(other.rollouts.completion_ids, usual.rollouts.completion_ids)
    found = one_pass(other, logits.scored_by(logits.WAYS[way]))
    assert max(gradient.abs().max() for gradient in expected) > 1e-3
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_both_ways_of_scoring_give_the_same_values_and_gradients(model):
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.data.normal_(0, 0.1)
    rollouts = random_rollouts(model, rows=3, prompt=4, length=6)
    found = [way(model, rollouts, torch.arange(3), 1.0) for way in logits.WAYS.values()]
    torch.testing.assert_close(found[0].logprobs, found[1].logprobs)
    torch.testing.assert_close(found[0].entropy, found[1].entropy)
    chunks, at_once = (torch.autograd.grad(f.logprobs.square().sum(), parameters) for f in found)
    assert max(gradient.abs().max() for gradient in chunks) > 0.1
    for ours, usual in zip(chunks, at_once, strict=True):
        torch.testing.assert_close(ours, usual)


def test_a_power_law_has_its_power_as_exponent():
    rows = [
        {
            "factor": "G",
            "value": g,
            "sampling_s": 3.0 * g**0.5,
            "scoring_s": 7.0,
            "updating_s": 0.1 * g,
        }
        for g in (4, 8, 32)
    ]
    assert exponents(rows) == {"G": {"sampling_s": 0.5, "scoring_s": 0.0, "updating_s": 1.0}}


def test_bytes_of_a_logit_are_the_growth_of_the_peak_over_that_of_the_logits():
    def row(way: str, vocabulary: int, peak: float) -> dict:
        sizes = {"vocabulary": vocabulary, "all_logits_mb": vocabulary / 100}
        return {"way": way, "completion_tokens": 64, "peak_mb": peak, **sizes}

    # From V = 1000 to 3000 the fp32 logits grow by 20 MB: 5 million. The first row does not count.
    rows = [row("all logits", v, p) for v, p in ((3000, 200), (1000, 140), (100, 0))]
    rows += [row("chunks", v, 150) for v in (1000, 3000)]
    # 60 MB for 20 MB of 4-byte logits are 12 bytes each.
    assert bytes_per_logit(rows) == {"all logits": {"64": 12.0}, "chunks": {"64": 0.0}}


def test_a_step_is_compared_round_by_round():
    def runs(seconds: list[float], mb: list[float]) -> list[dict]:
        pairs = zip(seconds, mb, strict=True)
        return [{"step_seconds": s, "memory_mb": m, "update_seconds": s / 2} for s, m in pairs]

    # Ratios 0.5, 0.5 and 0.1: the middle one counts, though the median seconds are 2 and 6.
    row = step_row("gdpo", "4 x 8", runs([1, 2, 2], [10, 10, 10]), runs([2, 4, 20], [20, 20, 20]))
    assert (row["time_ratio_to_trl"], row["memory_ratio_to_trl"]) == (0.5, 0.5)
    assert (row["step_seconds"], row["trl_step_seconds"], row["share_of_update"]) == (2, 4, 0.5)


def test_a_step_that_reads_ten_gigabytes_in_twice_the_time_reaches_half_of_the_bandwidth():
    # 10 GB at 1000 GB/s take 10 ms; the step takes 20.
    share = cards.decode_share(weight_bytes=8e9, cache_bytes=2e9, step_seconds=0.02, bandwidth=1e12)
    assert share == pytest.approx(0.5)


def test_a_card_is_large_enough_with_what_the_driver_takes():
    just = 8 * 1024 - cards.OVERHEAD_MB
    assert cards.fits(just) == dict.fromkeys(("8 GB", "12 GB", "16 GB", "24 GB"), True)
    assert not cards.fits(just + 1)["8 GB"]


def test_growth_is_measured_one_factor_at_a_time_and_every_series_has_the_base():
    points = growth.points()
    assert points[growth.BASE] == list(growth.FACTORS)
    for point in points:
        changed = [f for f in growth.FACTORS if getattr(point, f) != getattr(growth.BASE, f)]
        assert len(changed) <= 1


def test_shares_of_the_phases_add_up_and_the_rest_is_other():
    diary = phases.Diary()
    # Two steps of 3 s in the 10 s between the evaluations' ends, the second of which takes 2 s.
    diary.ended, diary.begun = [100.0, 110.0], [99.0, 108.0]
    diary.steps = [{"sample": 1.0, "score": 0.5, "update": 1.5, "total": 3.0}] * 2
    assert phases.summary(diary) == {
        "steps": 2,
        "step_seconds": 5.0,
        "shares": {
            "sampling": 0.2,
            "scoring": 0.1,
            "updating": 0.3,
            "evaluating": 0.2,
            "other": 0.2,
        },
    }


RESULT = {
    "machine": "a machine",
    "rollout": [
        {
            "engine": engine,
            "model": model,
            "batch": 8,
            "new_tokens": 48,
            "tokens_per_s": 1000.0 * ratio,
            "ratio_to_generate": ratio,
        }
        for model, engine, ratio in (
            ("starter", "generate", 1.0),
            ("starter", "gdpo", 2.5),
            ("other", "generate", 1.0),
        )
    ],
    "step": [],
    "memory": None,
    "not_measured": {"rollout": {"llama.cpp: other": "too old"}, "memory": {"memory": "no Linux"}},
}


def test_the_tables_show_what_was_found_and_what_was_not():
    text = page(RESULT)
    assert "| starter | 48 | 8 | 1000 (1.00x) | 2500 (2.50x) |" in text
    assert "| other | 48 | 8 | 1000 (1.00x) | – |" in text
    assert "- llama.cpp: other: too old" in text
    assert "- memory: no Linux" in text
    assert "TRL" not in text


def test_a_part_of_the_result_makes_a_figure(tmp_path):
    speed.save(RESULT, tmp_path)
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_a_part_that_there_is_not_is_refused(capsys):
    with pytest.raises(SystemExit):
        speed.main(["--only", "rollout,rest"])
    assert "'rest' is none of rollout, step" in capsys.readouterr().err
